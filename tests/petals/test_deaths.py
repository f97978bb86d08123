"""What is seen from outside when parts of an engine die or stand still."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from plumised.ipc.messages import Counters, Hello, Phase, Role
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.petals.client import SwarmClient
    from tests.petals.engine_process import EngineProcess

    Start = Callable[..., EngineProcess]


def dead(engine: EngineProcess) -> set[str]:
    beats = engine.recorder.beats(Role.MAIN)
    return set(beats[-1].dead) if beats else set()


def kill(engine: EngineProcess, name: str) -> None:
    os.kill(engine.process(name).pid, signal.SIGKILL)


def test_killed_parts_are_named_in_the_beats(start: Start, bloom: Path) -> None:
    engine = start(bloom)
    engine.online()
    for name, component in (("plumise-hdl-1", "handler-1"), ("p2pd", "p2pd"), ("plumise-dht", "dht")):
        assert component not in dead(engine)
        kill(engine, name)
        engine.wait(lambda: component in dead(engine), f"{component} is named")  # noqa: B023 -- waits within the turn
    engine.running()


def test_a_killed_handler_s_connection_ends_and_its_tally_stays(
    start: Start, bloom: Path, client: SwarmClient, served: EngineProcess
) -> None:
    engine = start(bloom, prefix="kill-handler", initial_peers=served.online().addresses, handlers=1)
    engine.online()
    client.open("interrupted", prefix="kill-handler")
    client.step("interrupted", prefix="kill-handler", length=6)
    kill(engine, "plumise-hdl-0")

    def gone() -> list[Hello]:
        return [hello for hello in engine.recorder.gone() if hello.role is Role.HANDLER]

    engine.wait(gone, "the handler's connection has ended")
    assert engine.tallied().inference == Counters(requests=1, steps=1, tokens=6)
    # Its session is not waited for.
    engine.signal(signal.SIGINT)
    assert engine.ended() == 0


def test_with_the_main_process_everything_dies(start: Start, bloom: Path) -> None:
    engine = start(bloom)
    engine.online()
    names = {process.name for process in engine.processes()}
    assert {"plumise-engine", "plumise-hdl-0", "plumise-hdl-1", "plumise-dht", "p2pd"} <= names
    engine.signal(signal.SIGKILL)
    assert engine.ended() == -signal.SIGKILL
    eventually(lambda: not engine.processes(), "the whole session is gone")


def test_a_main_process_that_stands_still_does_not_beat(start: Start, bloom: Path) -> None:
    engine = start(bloom)
    engine.online()

    def handler_beats(since: int) -> int:
        return len(engine.recorder.beats(Role.HANDLER, since))

    engine.signal(signal.SIGSTOP)
    eventually(lambda: engine.process("plumise-engine").state == "T", "the main process stands still")
    since = len(engine.recorder)
    engine.wait(lambda: handler_beats(since), "what was under way has arrived")
    since = len(engine.recorder)
    engine.wait(lambda: handler_beats(since) >= 2, "a handler goes on beating")
    assert engine.recorder.beats(Role.MAIN, since) == []
    engine.signal(signal.SIGCONT)
    engine.wait(lambda: engine.recorder.beats(Role.MAIN, since), "the main process beats again")


def test_blocks_are_exchanged_without_a_word_of_death(
    start: Start, bloom: Path, client: SwarmClient, served: EngineProcess
) -> None:
    engine = start(
        bloom,
        arguments=("-m", "tests.petals.restless_engine"),
        prefix="restless",
        initial_peers=served.online().addresses,
    )
    engine.wait(lambda: engine.recorder.phases().count(Phase.ONLINE) == 2, "it serves other blocks")
    assert engine.recorder.phases()[2:] == [Phase.LOADING, Phase.ONLINE, Phase.JOINING, Phase.LOADING, Phase.ONLINE]
    since = len(engine.recorder)
    assert client.forward(prefix="restless", batch=1, length=2) == [1, 2, 64]
    assert engine.tallied().forward == Counters(requests=1, steps=1, tokens=2)
    engine.wait(lambda: len(engine.recorder.beats(Role.MAIN, since)) > 1, "it beats")
    assert not any(beat.dead for beat in engine.recorder.beats(Role.MAIN))
