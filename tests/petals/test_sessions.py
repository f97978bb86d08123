"""Sessions side by side in a real engine: each gets what it would get alone, and none keeps another from it."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from plumised.ipc.messages import Counters, Role
from tests.petals.client import ClientError, Kept, Step, SwarmClient
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.petals.engine_process import EngineProcess

    Start = Callable[..., EngineProcess]

SESSIONS = 8
PROMPTS = (1, 3, 5, 8, 9, 20, 33, 40)
"""Their lengths: of one pass of the kernel, of several, and of what torch computes."""
STEPS = 6


@pytest.mark.parametrize("model", ["bloom", "llama"])
def test_eight_sessions_at_once_get_what_each_gets_alone(
    start: Start, request: pytest.FixtureRequest, model: str, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(model)
    engine = start(path, threads=2)

    def steps(name: str, number: int) -> list[Step]:
        keep = Kept(tmp_path / f"{name}-{number}")
        lengths = [PROMPTS[number], *[1] * STEPS]
        return [Step(f"{name}-{number}", 1, length, 100 * number + i, keep) for i, length in enumerate(lengths)]

    with SwarmClient(path, engine.online().addresses, tmp_path / "log") as client:

        def serve(name: str, run: Callable[[Sequence[list[Step]]], None]) -> list[bytes]:
            sessions = [steps(name, number) for number in range(SESSIONS)]
            for session in sessions:
                client.open(session[0].session)
            run(sessions)
            for session in sessions:
                client.close(session[0].session)
            return [session[0].keep.received for session in sessions if session[0].keep]

        def at_once(sessions: Sequence[list[Step]]) -> None:
            for number in range(1 + STEPS):
                client.together(*(session[number] for session in sessions))

        def alone(sessions: Sequence[list[Step]]) -> None:
            for session in sessions:
                for step in session:
                    client.together(step)

        assert serve("at-once", at_once) == serve("alone", alone)
    tokens = 2 * (sum(PROMPTS) + SESSIONS * STEPS)
    assert engine.tallied().inference == Counters(2 * SESSIONS, 2 * SESSIONS * (1 + STEPS), tokens)


def test_the_first_handler_serves_sessions_and_the_others_passes(start: Start, bloom: Path, tmp_path: Path) -> None:
    engine = start(bloom, handlers=3)
    with SwarmClient(bloom, engine.online().addresses, tmp_path / "log") as client:
        for name in ("one", "two", "three"):
            client.open(name)
            client.step(name)
            client.close(name)
            client.forward(batch=1, length=1)

    def served() -> dict[int, tuple[int, int]]:
        usages = engine.recorder.usages().items()
        return {hello.index: (usage.inference.requests, usage.forward.requests) for hello, usage in usages}

    engine.wait(lambda: sum(map(sum, served().values())) == 6, "all is counted")
    assert served().pop(0) == (3, 0)
    assert sum(passes for index, (_, passes) in served().items() if index) == 3
    assert sum(sessions for index, (sessions, _) in served().items() if index) == 0


def test_a_full_cache_refuses_sessions_and_takes_them_when_others_have_ended(
    start: Start, bloom: Path, tmp_path: Path
) -> None:
    engine = start(bloom, attention_cache_tokens=64)
    with SwarmClient(bloom, engine.online().addresses, tmp_path / "log") as client:
        client.open("all of it", max_length=64)
        client.step("all of it")
        client.open("one more", max_length=1)
        with pytest.raises(ClientError):
            client.step("one more")
        client.step("all of it")
        client.close("all of it")
        client.open("the next", max_length=64)
        client.step("the next")
        client.close("the next")
    assert engine.tallied().inference == Counters(requests=2, steps=3, tokens=3)


def test_what_a_client_held_that_was_killed_in_the_middle_is_free_again(
    start: Start, bloom: Path, tmp_path: Path
) -> None:
    engine = start(bloom, attention_cache_tokens=64)
    addresses = engine.online().addresses
    with SwarmClient(bloom, addresses, tmp_path / "log") as client:
        with SwarmClient(bloom, addresses, tmp_path / "killed") as killed:
            killed.open("holds", max_length=60)
            client.open("beside", max_length=4)
            killed.step("holds")
            stepping = threading.Thread(target=_step_until_it_fails, args=(killed, "holds"))
            stepping.start()
            client.step("beside")
            os.killpg(killed._running().pid, signal.SIGKILL)
            stepping.join()
            client.step("beside", length=3)
            client.close("beside")

        def served() -> bool:
            client.open("the next", max_length=64)
            try:
                client.step("the next")
            except ClientError:
                return False
            return True

        eventually(served, "the cache is free again")
    assert not any(beat.dead for beat in engine.recorder.beats(Role.MAIN))


def test_an_engine_stops_in_order_in_the_middle_of_sessions(start: Start, bloom: Path, tmp_path: Path) -> None:
    engine = start(bloom, drain_timeout_s=0.2)
    with SwarmClient(bloom, engine.online().addresses, tmp_path / "log") as client:
        client.open("cut off", max_length=2048)
        client.step("cut off")
        stepping = threading.Thread(target=_step_until_it_fails, args=(client, "cut off"))
        stepping.start()
        before = engine.tallied().inference.steps
        eventually(lambda: engine.tallied().inference.steps > before, "it is stepping")
        engine.signal(signal.SIGINT)
        assert engine.ended() == 0, engine.log
        stepping.join()
    assert "Traceback" not in engine.log
    assert engine.tallied().inference.tokens == engine.tallied().inference.steps
    assert not engine.processes()


def _step_until_it_fails(client: SwarmClient, session: str) -> None:
    try:
        while True:
            client.together(Step(session))
    except (ClientError, AssertionError, BrokenPipeError):
        return
