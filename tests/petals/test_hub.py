"""A model that is on a hub: fetched once, then there without one."""

from __future__ import annotations

import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.ipc.messages import Phase
from tests.petals.engine_process import EngineProcess
from tests.petals.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., EngineProcess]

MODEL = "tiny/llama.1"


@pytest.fixture(scope="module")
def fetched(llama: Path) -> Iterator[tuple[Hub, Path]]:
    """A hub, and the directory of an engine that has served two blocks of its model once."""
    with tempfile.TemporaryDirectory(prefix="plm-") as directory, Hub({MODEL: llama}) as hub:
        with EngineProcess(
            MODEL, directory=Path(directory), offline=False, hub_url=hub.url, prefix=None, first_block=0, last_block=2
        ) as engine:
            engine.online()
            engine.signal(signal.SIGINT)
            assert engine.ended() == 0
        yield hub, Path(directory)


def test_every_file_that_the_span_needs_is_fetched_once_and_no_other(fetched: tuple[Hub, Path]) -> None:
    hub, _ = fetched
    assert sorted(hub.downloads()) == [
        "config.json",
        "model-00002-of-00004.safetensors",
        "model-00003-of-00004.safetensors",
        "model.safetensors.index.json",
    ]


def test_offline_it_starts_from_the_cache_without_a_call(start: Start, fetched: tuple[Hub, Path]) -> None:
    hub, directory = fetched
    before = len(hub.requests)
    engine = start(MODEL, directory=directory, hub_url=hub.url, prefix=None, last_block=2)
    assert engine.online().end == 2
    assert hub.requests[before:] == []


def test_with_the_hub_gone_it_starts_from_the_cache(start: Start, fetched: tuple[Hub, Path]) -> None:
    _, directory = fetched
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}"
    engine = start(MODEL, directory=directory, offline=False, hub_url=url, prefix=None, last_block=2)
    engine.online()


def test_a_download_that_was_cut_off_is_tried_again(start: Start, bloom: Path) -> None:
    with Hub({"tiny/bloom": bloom}, cut_off=1) as hub:
        engine = start("tiny/bloom", offline=False, hub_url=hub.url)
        engine.reached(Phase.ONLINE)
        assert hub.downloads().count("model.safetensors") == 2
        assert "Fetching model.safetensors failed, attempt 1 of 4" in engine.log
