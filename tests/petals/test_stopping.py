"""An engine ends when it is told to, in order, at any moment of its life, and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.ipc.messages import Counters, Phase, Refused, Role
from tests.petals.engine_process import ENTRY_POINT, EngineProcess, session
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.petals.client import SwarmClient

    Start = Callable[..., EngineProcess]

PARENT = f"""
import signal, subprocess, sys
subprocess.Popen([sys.executable, *{ENTRY_POINT!r}], start_new_session=True)
signal.pause()
"""


def assert_nothing_is_left(engine: EngineProcess, main: int | None = None) -> None:
    eventually(lambda: not session(main or engine.pid), "no process of the engine is left")
    states = engine.recorder.states()
    # A p2pd that is only just starting may make its socket after the engine has cleared the directory for the last
    # time; the next start clears it.
    if not states or states[-1].total_blocks is None or states[-1].peer_id is not None:
        assert list(Path(engine.job.runtime_dir).glob("*")) == []
    for state in states:
        for address in state.addresses:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", int(address.split("/")[4])))


def assert_an_ordered_end(engine: EngineProcess) -> None:
    assert engine.ended() == 0, engine.log
    assert engine.recorder.phases()[-1] is Phase.STOPPED
    assert engine.recorder.failures() == []
    assert "Traceback" not in engine.log
    assert_nothing_is_left(engine)


@pytest.fixture
def peers(served: EngineProcess) -> tuple[str, ...]:
    return served.online().addresses


def test_sigint_ends_an_engine_that_has_served(
    start: Start, llama: Path, client: SwarmClient, peers: tuple[str, ...]
) -> None:
    engine = start(llama, prefix="stop", initial_peers=peers)
    engine.online()
    assert client.forward(prefix="stop", batch=1, length=3) == [1, 3, 64]
    engine.signal(signal.SIGINT)
    assert_an_ordered_end(engine)
    assert engine.tallied().forward == Counters(requests=1, steps=1, tokens=3)
    assert engine.reported() == engine.tallied()


def test_open_sessions_are_served_on_until_they_end(
    start: Start, bloom: Path, client: SwarmClient, peers: tuple[str, ...]
) -> None:
    engine = start(bloom, prefix="drain", initial_peers=peers, drain_timeout_s=600.0)
    engine.online()
    client.open("last", prefix="drain")
    client.step("last", prefix="drain", length=4)
    since = len(engine.recorder)
    engine.signal(signal.SIGINT)
    engine.reached(Phase.DRAINING)
    client.step("last", prefix="drain")
    engine.wait(lambda: len(engine.recorder.beats(Role.MAIN, since)) > 2, "it beats while it drains")
    assert not any(beat.dead for beat in engine.recorder.beats(Role.MAIN))
    client.close("last", prefix="drain")
    assert_an_ordered_end(engine)
    assert engine.tallied().inference == Counters(requests=1, steps=2, tokens=5)


def test_sessions_that_do_not_end_are_cut_off_when_the_time_for_draining_is_over(
    start: Start, bloom: Path, client: SwarmClient, peers: tuple[str, ...]
) -> None:
    engine = start(bloom, prefix="cut-off", initial_peers=peers, drain_timeout_s=0.3)
    engine.online()
    client.open("endless", prefix="cut-off")
    client.step("endless", prefix="cut-off", length=4)
    engine.signal(signal.SIGINT)
    assert_an_ordered_end(engine)
    assert engine.tallied().inference == Counters(requests=1, steps=1, tokens=4)


def test_a_second_sigint_cuts_the_draining_short(
    start: Start, bloom: Path, client: SwarmClient, peers: tuple[str, ...]
) -> None:
    engine = start(bloom, prefix="hurry", initial_peers=peers, drain_timeout_s=600.0)
    engine.online()
    client.open("patient", prefix="hurry")
    client.step("patient", prefix="hurry", length=4)
    engine.signal(signal.SIGINT)
    engine.reached(Phase.DRAINING)
    engine.signal(signal.SIGINT)
    assert_an_ordered_end(engine)


@pytest.mark.parametrize("phase", [Phase.IMPORTING, Phase.JOINING, Phase.LOADING])
def test_sigint_ends_an_engine_that_does_not_serve_yet(start: Start, bloom: Path, phase: Phase) -> None:
    engine = start(bloom)
    engine.reached(phase)
    engine.signal(signal.SIGINT)
    assert_an_ordered_end(engine)


def test_many_sigints_at_once_end_it_as_one_does(start: Start, bloom: Path) -> None:
    engine = start(bloom)
    engine.online()
    for _ in range(5):
        engine.signal(signal.SIGINT)
    assert engine.ended() == 0, engine.log
    assert_nothing_is_left(engine)


def test_it_ends_in_order_when_its_parent_dies(start: Start, bloom: Path) -> None:
    parent = start(bloom, arguments=("-c", PARENT))
    parent.online()
    main = next(hello.pid for hello in parent.recorder.hellos() if hello.role is Role.MAIN)
    assert main != parent.pid
    parent.signal(signal.SIGKILL)
    parent.ended()
    eventually(lambda: parent.recorder.phases()[-1] is Phase.STOPPED, "the engine says that it has stopped")
    assert_nothing_is_left(parent, main)


def test_it_ends_when_the_daemon_refuses_it(start: Start, bloom: Path) -> None:
    engine = start(bloom, refusal=Refused("incarnation", "'life-1' is not the running incarnation"))
    assert engine.ended() == 0
    assert "The daemon refuses this engine: 'life-1' is not the running incarnation (incarnation)" in engine.log
    assert "Traceback" not in engine.log
    assert_nothing_is_left(engine)
