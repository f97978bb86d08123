"""What a handler counts, in which order it makes it known, and that peers see upstream's RPCs."""

from __future__ import annotations

import multiprocessing

import pytest
from hivemind.proto import runtime_pb2
from hypothesis import given
from hypothesis import strategies as st
from petals.server.handler import TransformerConnectionHandler

from plumised.ipc.job import EngineJob
from plumised.ipc.messages import Counters, Kind, Usage
from plumised.petals.counting import UsageCounter, counting_handler, tokens_of
from plumised.petals.progress_counter import RuntimeProgress

steps = st.lists(
    st.tuples(st.sampled_from(Kind), st.integers(0, 10**6), st.floats(0, 3600), st.booleans()), max_size=50
)


def ignore(_usage: Usage) -> None:
    """Nobody listens."""


@given(steps)
def test_counters_are_the_sums_of_what_was_added(steps: list[tuple[Kind, int, float, bool]]) -> None:
    counter = UsageCounter(ignore, ignore)
    for kind, tokens, service_s, first in steps:
        counter.add(kind, tokens=tokens, service_s=service_s, first=first)
    for kind in Kind:
        mine = [step for step in steps if step[0] is kind]
        assert getattr(counter.snapshot(), kind) == Counters(
            requests=sum(first for _, _, _, first in mine),
            steps=len(mine),
            tokens=sum(tokens for _, tokens, _, _ in mine),
            service_us=sum(round(service_s * 1e6) for _, _, service_s, _ in mine),
        )


@given(steps)
def test_every_step_is_on_disk_before_it_is_published(steps: list[tuple[Kind, int, float, bool]]) -> None:
    events: list[tuple[str, Usage]] = []
    counter = UsageCounter(
        lambda usage: events.append(("recorded", usage)), lambda usage: events.append(("published", usage))
    )
    for kind, tokens, service_s, first in steps:
        counter.add(kind, tokens=tokens, service_s=service_s, first=first)
        assert events[-2:] == [("recorded", counter.snapshot()), ("published", counter.snapshot())]
    assert len(events) == 2 * len(steps)


def test_what_cannot_be_recorded_is_not_published() -> None:
    def fail(_usage: Usage) -> None:
        raise OSError("the disk is gone")

    published: list[Usage] = []
    counter = UsageCounter(fail, published.append)
    with pytest.raises(OSError, match="gone"):
        counter.add(Kind.FORWARD, tokens=1, service_s=0, first=True)
    assert published == []


def test_a_clock_that_steps_back_takes_no_time_away() -> None:
    counter = UsageCounter(ignore, ignore)
    counter.add(Kind.INFERENCE, tokens=1, service_s=1.0, first=True)
    counter.add(Kind.INFERENCE, tokens=1, service_s=-5.0, first=False)
    assert counter.snapshot().inference.service_us == 1_000_000


@given(st.integers(0, 10**4), st.integers(0, 10**4), st.integers(0, 10**4))
def test_the_tokens_of_a_reply_are_batch_times_length(batch: int, length: int, hidden: int) -> None:
    tensor = runtime_pb2.Tensor(size=[batch, length, hidden])
    gradient_of_prompts = runtime_pb2.Tensor(size=[3, batch, 7, hidden])
    assert tokens_of(runtime_pb2.ExpertResponse(tensors=[tensor, gradient_of_prompts])) == batch * length


@pytest.mark.parametrize("size", [[], [5], [2, 3], [1, 2, 3, 4]])
def test_a_reply_of_another_shape_has_no_tokens(size: list[int]) -> None:
    assert tokens_of(runtime_pb2.ExpertResponse(tensors=[runtime_pb2.Tensor(size=size)])) == 0


def test_an_empty_reply_has_no_tokens() -> None:
    assert tokens_of(runtime_pb2.ExpertResponse()) == 0


def test_peers_find_upstream_s_rpcs_under_upstream_s_names() -> None:
    job = EngineJob("life-1", "/s", "/t", "/r", "/c", "/m", "/i")
    ours = counting_handler(job, multiprocessing.Array("i", 1, lock=False), RuntimeProgress(), threads=1)
    for handler in (ours, TransformerConnectionHandler):
        handler._rpc_handlers = None
        handler._collect_rpc_handlers()

    def offered(handler: type[TransformerConnectionHandler]) -> list[tuple[object, ...]]:
        # Only clients look at the type of the reply, and upstream's own says request for one of them.
        return [
            (handler._get_handle_name(None, rpc.method_name), rpc.request_type, rpc.stream_input, rpc.stream_output)
            for rpc in handler._rpc_handlers
        ]

    assert offered(ours) == offered(TransformerConnectionHandler)
    assert len(offered(ours)) >= 7
