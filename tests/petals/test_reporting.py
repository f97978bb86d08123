"""The states that the main process publishes."""

from __future__ import annotations

from plumised.ipc.messages import Phase, State
from plumised.petals.reporting import StateReporter


def test_a_life_is_told_step_by_step() -> None:
    published: list[State] = []
    states = StateReporter(published.append)
    states.joining(24)
    states.joined("Qm1", ["/ip4/127.0.0.1/tcp/1/p2p/Qm1"], dtype="float32", quantization="int8", device="cpu")
    states.loading(5, 7)
    states.block_loaded()
    states.block_loaded()
    states.online("eager")
    states.draining()
    states.stopped()
    assert [(state.phase, state.block, state.blocks) for state in published] == [
        (Phase.IMPORTING, None, None),
        (Phase.JOINING, None, None),
        (Phase.JOINING, None, None),
        (Phase.LOADING, 0, 2),
        (Phase.LOADING, 1, 2),
        (Phase.LOADING, 2, 2),
        (Phase.ONLINE, None, None),
        (Phase.DRAINING, None, None),
        (Phase.STOPPED, None, None),
    ]
    assert {(state.start, state.end, state.total_blocks, state.peer_id) for state in published[3:]} == {
        (5, 7, 24, "Qm1")
    }
    last = published[-1]
    assert (last.dtype, last.quantization, last.device, last.path) == ("float32", "int8", "cpu", "eager")


def test_blocks_that_are_loaded_outside_of_loading_are_not_counted() -> None:
    published: list[State] = []
    states = StateReporter(published.append)
    states.block_loaded()
    assert [state.phase for state in published] == [Phase.IMPORTING]


def test_taking_blocks_down_is_told_only_by_an_engine_that_goes_on() -> None:
    published: list[State] = []
    states = StateReporter(published.append)
    states.online("eager")
    states.not_serving()
    states.draining()
    states.not_serving()
    assert [state.phase for state in published[1:]] == [Phase.ONLINE, Phase.JOINING, Phase.DRAINING]
