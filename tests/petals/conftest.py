"""What the tests of the engine's side share: small checkpoints, an engine that serves throughout, and its client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from plumised.petals.compat import apply as apply_compatibility
from tests.devnet.model import make_bloom, make_llama
from tests.petals.client import SwarmClient
from tests.petals.engine_process import EngineProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Before a test module imports petals. What runs in the tests' own process asks no hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["BITSANDBYTES_NOWELCOME"] = "1"
apply_compatibility()

BLOCKS = 3


@pytest.fixture(scope="session")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BLOOM of three blocks in one file."""
    return make_bloom(tmp_path_factory.mktemp("model") / "bloom", blocks=BLOCKS)


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of three blocks in a file each."""
    return make_llama(tmp_path_factory.mktemp("model") / "llama", blocks=BLOCKS, blocks_per_file=1)


@pytest.fixture(scope="session")
def served(bloom: Path) -> Iterator[EngineProcess]:
    """An engine that serves for as long as the tests run; none of them may harm it."""
    with EngineProcess(bloom, first_block=0, last_block=BLOCKS, max_batch_size=20_000) as engine:
        engine.online()
        yield engine


@pytest.fixture(scope="session")
def client(served: EngineProcess, bloom: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwarmClient]:
    """A client of the swarm that `served` has begun."""
    with SwarmClient(bloom, served.online().addresses, tmp_path_factory.mktemp("client") / "log") as client:
        yield client


@pytest.fixture
def start() -> Iterator[Callable[..., EngineProcess]]:
    """Starts engines, by default of all blocks of a model; they are gone after the test."""
    started: list[EngineProcess] = []

    def start_engine(model: Path | str, **changes: Any) -> EngineProcess:
        engine = EngineProcess(model, **{"first_block": 0, "last_block": BLOCKS} | changes)
        engine.__enter__()
        started.append(engine)
        return engine

    yield start_engine
    for engine in reversed(started):
        engine.__exit__()
