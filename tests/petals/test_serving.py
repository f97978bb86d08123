"""A real engine serves a real Petals client: what it tells the daemon, and what it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plumised.ipc.messages import Counters, Phase, Role, Usage
from tests.petals.client import ClientError
from tests.petals.conftest import BLOCKS
from tests.petals.engine_process import total

if TYPE_CHECKING:
    from tests.petals.client import SwarmClient
    from tests.petals.engine_process import EngineProcess

NOTHING = Counters()


class Growth:
    """What an engine has counted since this was made."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._before = engine.tallied()

    def is_(self, *, inference: Counters = NOTHING, forward: Counters = NOTHING, backward: Counters = NOTHING) -> None:
        """Compare, on disk at once and over the socket in a moment."""
        expected = total([self._before, Usage(inference, forward, backward)])
        assert self._engine.tallied() == expected
        self._engine.wait(lambda: self._engine.reported() == expected, f"the socket says {expected}")


@pytest.fixture
def growth(served: EngineProcess) -> Growth:
    return Growth(served)


def test_it_passes_through_its_phases_in_order(served: EngineProcess) -> None:
    assert served.recorder.phases() == [Phase.IMPORTING, Phase.JOINING, Phase.LOADING, Phase.ONLINE]


def test_it_counts_the_blocks_as_they_are_loaded(served: EngineProcess) -> None:
    loading = [state for state in served.recorder.states() if state.phase is Phase.LOADING]
    # What follows closely replaces what has not been sent yet.
    numbers = [state.block for state in loading if state.block is not None]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] <= BLOCKS
    assert {state.blocks for state in loading} == {BLOCKS}


def test_it_says_who_it_is_and_what_it_serves(served: EngineProcess) -> None:
    state = served.online()
    assert (state.start, state.end, state.total_blocks) == (0, BLOCKS, BLOCKS)
    assert (state.dtype, state.quantization, state.device) == ("float32", "none", "cpu")
    assert state.peer_id is not None
    (address,) = state.addresses
    assert address.startswith("/ip4/127.0.0.1/tcp/")
    assert address.endswith(f"/p2p/{state.peer_id}")


def test_main_and_every_handler_say_hello_under_their_own_pid(served: EngineProcess) -> None:
    hellos = set(served.recorder.hellos())
    assert {(hello.role, hello.index) for hello in hellos} == {(Role.MAIN, 0), (Role.HANDLER, 0), (Role.HANDLER, 1)}
    pids = {process.pid: process.name for process in served.processes()}
    assert {(hello.role, hello.index): pids[hello.pid] for hello in hellos} == {
        (Role.MAIN, 0): "plumise-engine",
        (Role.HANDLER, 0): "plumise-hdl-0",
        (Role.HANDLER, 1): "plumise-hdl-1",
    }


@pytest.mark.parametrize("part", ["loop", "runtime", "dht", "p2pd"])
def test_every_part_of_the_main_process_beats(served: EngineProcess, part: str) -> None:
    def values() -> list[int]:
        return [getattr(beat, part) for beat in served.recorder.beats(Role.MAIN)]

    served.wait(lambda: max(values(), default=0) >= 2, f"{part} has answered twice")
    assert values() == sorted(values())
    assert all(not beat.dead for beat in served.recorder.beats(Role.MAIN))


@pytest.mark.parametrize("index", [0, 1])
def test_every_handler_beats(served: EngineProcess, index: int) -> None:
    def loops() -> list[int]:
        return [beat.loop for beat in served.recorder.beats(Role.HANDLER, index=index)]

    served.wait(lambda: len(loops()) >= 2, "the handler has beaten twice")
    assert loops() == sorted(set(loops()))


def test_a_session_is_one_request_and_its_steps_count_batch_times_length(
    served: EngineProcess, client: SwarmClient, growth: Growth
) -> None:
    client.open("prefill in chunks", max_length=256)
    assert client.step("prefill in chunks", batch=2, length=5) == [2, 5, 64]
    client.step("prefill in chunks", batch=2, length=3)
    # Above 128 tokens petals goes through the blocks one by one.
    client.step("prefill in chunks", batch=2, length=70)
    client.step("prefill in chunks", batch=2, length=1)
    client.close("prefill in chunks")
    growth.is_(inference=Counters(requests=1, steps=4, tokens=2 * (5 + 3 + 70 + 1)))
    served.wait(
        lambda: served.recorder.beats(Role.HANDLER, index=0)[-1].blocks >= 4 * BLOCKS,
        "the blocks computed are in a beat of the handler that computes",
    )


def test_a_step_without_tokens_counts_nothing(client: SwarmClient, growth: Growth) -> None:
    client.open("only asks for cache")
    assert client.step("only asks for cache", length=0) == [1, 0, 64]
    growth.is_()
    client.step("only asks for cache", length=2)
    client.close("only asks for cache")
    growth.is_(inference=Counters(requests=1, steps=1, tokens=2))


def test_a_step_is_counted_when_its_reply_is_there_and_not_when_the_session_ends(
    client: SwarmClient, growth: Growth
) -> None:
    client.open("stays open")
    client.step("stays open", length=4)
    growth.is_(inference=Counters(requests=1, steps=1, tokens=4))
    client.step("stays open")
    growth.is_(inference=Counters(requests=1, steps=2, tokens=5))
    client.close("stays open")
    growth.is_(inference=Counters(requests=1, steps=2, tokens=5))


def test_sessions_side_by_side_are_counted_each(client: SwarmClient, growth: Growth) -> None:
    for session in ("one", "two", "three"):
        client.open(session)
        client.step(session, length=3)
    for session in ("one", "two", "three"):
        client.step(session)
        client.close(session)
    growth.is_(inference=Counters(requests=3, steps=6, tokens=12))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_forward_pass_is_one_request_and_one_step(client: SwarmClient, growth: Growth, streamed: bool) -> None:
    assert client.forward(batch=2, length=7, streamed=streamed) == [2, 7, 64]
    growth.is_(forward=Counters(requests=1, steps=1, tokens=14))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_backward_pass_is_one_request_and_one_step(client: SwarmClient, growth: Growth, streamed: bool) -> None:
    assert client.backward(batch=3, length=5, streamed=streamed) == [3, 5, 64]
    growth.is_(backward=Counters(requests=1, steps=1, tokens=15))


def test_a_reply_in_several_parts_is_counted_once(client: SwarmClient, growth: Growth) -> None:
    # 4.3 MB, and a part holds 4 MiB.
    assert client.forward(batch=264, length=64, streamed=True) == [264, 64, 64]
    growth.is_(forward=Counters(requests=1, steps=1, tokens=264 * 64))


def test_a_step_that_is_refused_counts_nothing(client: SwarmClient, growth: Growth) -> None:
    client.open("beyond the limit of the server", max_length=4096)
    with pytest.raises(ClientError):
        client.step("beyond the limit of the server")
    growth.is_()


def test_the_time_of_service_is_counted_with_the_steps(served: EngineProcess, client: SwarmClient) -> None:
    def times() -> list[int]:
        usages = served.recorder.usages().values()
        return [sum(getattr(usage, kind).service_us for usage in usages) for kind in ("inference", "forward")]

    client.open("timed")
    client.step("timed")
    client.close("timed")
    client.forward(batch=1, length=1)
    served.wait(lambda: all(times()), "there is a time for inference and forward")


def test_after_a_reconnection_hello_state_and_all_counters_come_again(
    served: EngineProcess, client: SwarmClient
) -> None:
    recorder = served.recorder
    client.open("before")
    client.step("before", length=2)
    before = set(recorder.hellos())
    recorder.close()
    client.step("before", length=3)
    counted = served.tallied()
    since = len(recorder)
    recorder.open()
    served.wait(lambda: set(recorder.hellos(since)) == before, "every process has said hello again")
    assert served.reached(Phase.ONLINE, since) == served.online()
    served.wait(lambda: served.reported(since) == counted, f"the counters came again: {counted}")
    client.close("before")


def test_a_connection_to_the_daemon_is_not_needed_to_serve(client: SwarmClient, served: EngineProcess) -> None:
    before = served.tallied()
    served.recorder.close()
    try:
        assert client.forward(batch=1, length=2) == [1, 2, 64]
        assert served.tallied().forward.tokens == before.forward.tokens + 2
    finally:
        served.recorder.open()
