"""The thread that computes steps: what it gives, in which order, and what becomes of sessions that go away."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumised.petals.fast.coverage import KERNEL_ROWS
from plumised.petals.fast.kernel import KernelSpan, SpanStep
from plumised.petals.fast.serving import Short, compute_together
from plumised.petals.fast.worker import Worker
from plumised.petals.progress_counter import RuntimeProgress
from tests.petals.fast.random_blocks import Shape, config_of, empty_cache, make_block, shapes
from tests.petals.fast.test_eager import fused, petals_session
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from plumised.petals.fast.kernel import Kernel
    from plumised.petals.fast.parts import Parts

SMALL: Final = Shape("llama", heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=False)
COMPUTE_TOGETHER: Final = "plumised.petals.fast.worker.compute_together"
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def together(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Steps of one pass: batch, length and prefix of each."""
    steps: list[tuple[int, int, int]] = []
    room = KERNEL_ROWS
    while room and (not steps or draw(st.booleans())):
        batch = draw(st.integers(1, room))
        length = draw(st.integers(1, room // batch))
        steps.append((batch, length, draw(st.integers(0, 50))))
        room -= batch * length
    return steps


@given(shape=shapes(), steps=together(), seed=st.integers(0, 2**16))
@EXAMPLES
def test_steps_that_go_together_give_what_petals_gives_each(
    kernel: Kernel, shape: Shape, steps: list[tuple[int, int, int]], seed: int
) -> None:
    block, config = make_block(shape, seed=seed), config_of(shape)
    generator = torch.Generator().manual_seed(seed)
    span = KernelSpan(kernel, [fused(block)])
    asked, wanted, caches = [], [], []
    for number, (batch, length, prefix) in enumerate(steps):
        hidden = torch.randn(batch, prefix + length, config.hidden_size, generator=generator)
        chunks = [hidden[:, :prefix], hidden[:, prefix:]] if prefix else [hidden]
        outputs, (keys, values) = petals_session(block, config, chunks)
        # Each session has a cache of its own size.
        cache = empty_cache(config, batch, prefix + length + number, torch.float32)
        cache[0].flatten(0, 1)[..., :prefix] = keys[..., :prefix]
        cache[1].flatten(0, 1)[:, :prefix] = values[:, :prefix]
        asked.append(SpanStep(hidden[:, prefix:], [cache], prefix))
        wanted.append(outputs[-1])
        caches.append((cache, keys, values))
    with torch.inference_mode():
        results = span.compute_together(asked)
    for result, expected in zip(results, wanted, strict=True):
        torch.testing.assert_close(result, expected, rtol=2e-4, atol=2e-5)
    for (own_keys, own_values), keys, values in caches:
        torch.testing.assert_close(own_keys.flatten(0, 1)[..., : keys.shape[-1]], keys, rtol=2e-4, atol=2e-5)
        torch.testing.assert_close(own_values.flatten(0, 1)[:, : values.shape[1]], values, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@given(shape=shapes(), steps=together(), seed=st.integers(0, 2**16))
@EXAMPLES
def test_what_a_step_gives_does_not_depend_on_what_goes_with_it(
    kernel: Kernel, dtype: torch.dtype, shape: Shape, steps: list[tuple[int, int, int]], seed: int
) -> None:
    block, config = make_block(shape, dtype, seed=seed), config_of(shape)
    generator = torch.Generator().manual_seed(seed)
    span = KernelSpan(kernel, [fused(block)])
    asked, alone = [], []
    for batch, length, prefix in steps:
        cache = [torch.randn(old.shape, generator=generator).to(dtype) for old in _room(config, batch, length, prefix)]
        hidden = torch.randn(batch, length, config.hidden_size, generator=generator).to(dtype)
        asked.append(SpanStep(hidden, [(cache[0], cache[1])], prefix))
        alone.append(SpanStep(hidden, [(cache[0].clone(), cache[1].clone())], prefix))
    with torch.inference_mode():
        results = span.compute_together(asked)
        for result, step, single in zip(results, asked, alone, strict=True):
            assert torch.equal(result, span.compute_together([single])[0])
            assert torch.equal(step.caches[0][0], single.caches[0][0])
            assert torch.equal(step.caches[0][1], single.caches[0][1])


def _room(config: Any, batch: int, length: int, prefix: int) -> tuple[torch.Tensor, torch.Tensor]:
    return empty_cache(config, batch, prefix + length, torch.float32)


def test_more_rows_than_a_pass_takes_are_refused(kernel: Kernel) -> None:
    span = KernelSpan(kernel, [fused(make_block(SMALL))])
    length = KERNEL_ROWS // 2 + 1
    step = SpanStep(torch.zeros(1, length, 32), [empty_cache(config_of(SMALL), 1, length, torch.float32)], 0)
    with pytest.raises(ValueError, match="more rows"):
        span.compute_together([step, step])


class Gate:
    """A long step of so many parts, each of which lasts until the test lets it end."""

    def __init__(self, parts: int = 1, order: list[Gate] | None = None) -> None:
        self._order = [] if order is None else order
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.closed = False
        self._parts = parts

    def prepare(self) -> Parts:
        return self._compute()

    def _compute(self) -> Parts:
        try:
            for number in range(self._parts):
                if number:
                    yield
                self._order.append(self)
                self.begun.release()
                assert self.may_end.acquire(timeout=DEADLINE_S)
        finally:
            self.closed = True
        return torch.zeros(1)


class Passes:
    """Steps of one token in sessions of their own, and the passes in which they were computed."""

    def __init__(self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.span = KernelSpan(kernel, [fused(make_block(SMALL))])
        self.passes: list[int] = []
        self.progress = RuntimeProgress()

        monkeypatch.setattr(COMPUTE_TOGETHER, self.compute)

    def compute(self, steps: list[Short]) -> list[torch.Tensor]:
        self.passes.append(len(steps))
        return compute_together(steps)

    def step(self) -> Short:
        cache = empty_cache(config_of(SMALL), 1, 4, torch.float32)
        return Short(self.span, SpanStep(torch.ones(1, 1, 32), [cache], 0), self.progress)


@pytest.fixture
def passes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Passes:
    return Passes(kernel, monkeypatch)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(threads=1)
    worker.start()
    yield worker
    worker.close(DEADLINE_S)
    assert not worker._thread.is_alive()


async def begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.acquire, timeout=DEADLINE_S)


def test_steps_that_wait_at_the_same_moment_are_one_pass(worker: Worker, passes: Passes) -> None:
    async def run() -> None:
        gate = Gate()
        blocking = worker.submit(gate.prepare)
        await begun(gate)
        answers = [worker.submit(passes.step) for _ in range(KERNEL_ROWS + 3)]
        gate.may_end.release()
        results = await asyncio.wait_for(asyncio.gather(blocking, *answers), DEADLINE_S)
        (first,) = results[1]
        assert all(torch.equal(result, first) for (result,) in results[2:])

    asyncio.run(run())
    assert passes.passes == [KERNEL_ROWS, 3]
    assert passes.progress.blocks == KERNEL_ROWS + 3


def test_a_step_alone_waits_for_nobody(worker: Worker, passes: Passes) -> None:
    async def run() -> None:
        for _ in range(3):
            await asyncio.wait_for(worker.submit(passes.step, "session"), DEADLINE_S)

    asyncio.run(run())
    assert passes.passes == [1, 1, 1]


class Clock:
    """Stands still but for what the test says, and for passes, which take a while."""

    def __init__(self, passes: Passes, pass_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._passes = passes
        self._pass_s = pass_s
        monkeypatch.setattr(COMPUTE_TOGETHER, self._compute)

    def __call__(self) -> float:
        return self.now

    def _compute(self, steps: list[Short]) -> list[torch.Tensor]:
        self.now += self._pass_s
        return self._passes.compute(steps)


@contextmanager
def habitual(passes: Passes, clock: Clock) -> Iterator[tuple[Worker, Callable[[str], asyncio.Future[Any]]]]:
    """A worker, and how steps of two sessions are submitted to it, which both come back after 90 s."""
    worker = Worker(threads=1, clock=clock)
    worker.start()

    def submit(session: str) -> asyncio.Future[Any]:
        return worker.submit(passes.step, session)

    async def teach() -> None:
        for start in (0.0, 100.0):
            for session, after_s in (("first", 0.0), ("second", 20.0)):
                clock.now = start + after_s
                await asyncio.wait_for(submit(session), DEADLINE_S)

    asyncio.run(teach())
    clock.now = 200.0
    yield worker, submit
    worker.close(DEADLINE_S)


def test_a_step_waits_for_a_session_that_is_due(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        first = submit("first")
        for _ in range(2):
            await asyncio.wait_for(worker.probe(), DEADLINE_S)
        assert not first.done()
        await asyncio.wait_for(asyncio.gather(first, submit("second")), DEADLINE_S)

    with habitual(passes, Clock(passes, 10.0, monkeypatch)) as (worker, submit):
        asyncio.run(run())
    assert passes.passes == [1, 1, 1, 1, 2]


def test_a_step_goes_alone_where_who_was_due_does_not_come(passes: Passes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        clock.now = 219.99
        await asyncio.wait_for(submit("first"), DEADLINE_S)

    clock = Clock(passes, 0.01, monkeypatch)
    with habitual(passes, clock) as (_, submit):
        asyncio.run(run())
    assert passes.passes == [1, 1, 1, 1, 1]


def test_short_steps_go_between_the_parts_of_a_long_one(worker: Worker, passes: Passes) -> None:
    async def run() -> None:
        gate = Gate(parts=3)
        long = worker.submit(gate.prepare)
        for _ in range(2):
            await begun(gate)
            short = worker.submit(passes.step)
            gate.may_end.release()
            await asyncio.wait_for(short, DEADLINE_S)
            assert not long.done()
        await begun(gate)
        gate.may_end.release()
        await asyncio.wait_for(long, DEADLINE_S)

    asyncio.run(run())


def test_long_steps_take_turns(worker: Worker) -> None:
    async def run() -> None:
        order: list[Gate] = []
        first, second = Gate(3, order), Gate(2, order)
        answer = worker.submit(first.prepare)
        await begun(first)
        other = worker.submit(second.prepare)
        first.may_end.release(3)
        second.may_end.release(2)
        await asyncio.wait_for(asyncio.gather(answer, other), DEADLINE_S)
        assert order == [first, first, second, first, second]

    asyncio.run(run())


def test_a_session_that_vanishes_from_the_line_costs_the_others_nothing(worker: Worker, passes: Passes) -> None:
    async def run() -> None:
        gate = Gate()
        blocking = worker.submit(gate.prepare)
        await begun(gate)
        answers = [worker.submit(passes.step) for _ in range(4)]
        answers[1].cancel()
        gate.may_end.release()
        await asyncio.wait_for(asyncio.gather(blocking, answers[0], *answers[2:]), DEADLINE_S)

    asyncio.run(run())
    assert passes.passes == [3]


def test_a_session_that_vanishes_while_its_pass_is_computed_leaves_the_others_theirs(
    worker: Worker, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def held(steps: list[Short]) -> list[torch.Tensor]:
        inside.set()
        assert go_on.wait(DEADLINE_S)
        return passes.compute(steps)

    monkeypatch.setattr(COMPUTE_TOGETHER, held)

    async def run() -> None:
        gate = Gate()
        blocking = worker.submit(gate.prepare)
        await begun(gate)
        answers = [worker.submit(passes.step) for _ in range(3)]
        gate.may_end.release()
        assert await asyncio.to_thread(inside.wait, DEADLINE_S)
        answers[1].cancel()
        go_on.set()
        await asyncio.wait_for(asyncio.gather(blocking, answers[0], answers[2]), DEADLINE_S)

    asyncio.run(run())
    assert passes.passes == [3]


def test_a_long_step_that_nobody_waits_for_is_given_up(worker: Worker) -> None:
    async def run() -> None:
        gate = Gate(parts=1000)
        answer = worker.submit(gate.prepare)
        await begun(gate)
        answer.cancel()
        gate.may_end.release()
        await asyncio.wait_for(worker.probe(), DEADLINE_S)
        await asyncio.wait_for(worker.probe(), DEADLINE_S)
        assert gate.closed

    asyncio.run(run())


def test_what_goes_wrong_reaches_the_one_who_asked(worker: Worker, passes: Passes) -> None:
    def refused() -> Parts:
        raise KeyError("a handle that was freed")

    def failing() -> Parts:
        yield
        raise RuntimeError("a block that fails")

    async def run() -> None:
        with pytest.raises(KeyError, match="freed"):
            await asyncio.wait_for(worker.submit(refused), DEADLINE_S)
        with pytest.raises(RuntimeError, match="fails"):
            await asyncio.wait_for(worker.submit(failing), DEADLINE_S)
        await asyncio.wait_for(worker.submit(passes.step), DEADLINE_S)

    asyncio.run(run())


def test_a_pass_that_fails_is_told_to_all_of_it(
    worker: Worker, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(_steps: list[Short]) -> list[torch.Tensor]:
        raise MemoryError("no memory for the kernel")

    monkeypatch.setattr(COMPUTE_TOGETHER, without_memory)

    async def run() -> None:
        answers = [worker.submit(passes.step) for _ in range(2)]
        for answer in answers:
            with pytest.raises(MemoryError):
                await asyncio.wait_for(answer, DEADLINE_S)

    asyncio.run(run())


def test_closing_gives_up_what_waits(passes: Passes) -> None:
    worker = Worker(threads=1)
    worker.start()

    async def run() -> None:
        gate = Gate(parts=2)
        long = worker.submit(gate.prepare)
        await begun(gate)
        waiting = worker.submit(passes.step)
        closing = asyncio.create_task(asyncio.to_thread(worker.close, DEADLINE_S))
        await asyncio.to_thread(_until_closed, worker)
        gate.may_end.release()
        await asyncio.wait_for(closing, DEADLINE_S)
        assert not long.done()
        assert not waiting.done()

    asyncio.run(run())
    assert not worker._thread.is_alive()
    assert passes.passes == []


def _until_closed(worker: Worker) -> None:
    with worker._changed:
        while not worker._closed:
            worker._changed.wait(0.01)


def test_a_probe_is_answered_between_the_parts_of_a_long_step(worker: Worker) -> None:
    async def run() -> None:
        gate = Gate(parts=2)
        long = worker.submit(gate.prepare)
        await begun(gate)
        probe = worker.probe()
        await asyncio.sleep(0)
        assert not probe.done()
        gate.may_end.release()
        await asyncio.wait_for(probe, DEADLINE_S)
        assert not long.done()
        gate.may_end.release()
        await asyncio.wait_for(long, DEADLINE_S)

    asyncio.run(run())
