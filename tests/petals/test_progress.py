"""Probes of hivemind's real runtime thread: it answers while it lives, and between its batches."""

from __future__ import annotations

import ast
import inspect
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest
from hivemind.moe.server.runtime import Runtime
from petals.server.server import ModuleContainer

from plumised.petals.progress import ProbePool
from plumised.petals.progress_counter import RuntimeProgress
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


class GatedPool(ProbePool):
    """A pool whose batches last until the test lets them end."""

    name = "gated"
    priority = (0.0, 0.0)

    def __init__(self) -> None:
        self.batches = 0
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        super().__init__(self._wait)

    def _wait(self) -> None:
        self.batches += 1
        self.entered.release()
        self.gate.acquire()


class BrokenPool(ProbePool):
    """A pool whose batches fail."""

    def __init__(self) -> None:
        super().__init__(self._fail)

    def _fail(self) -> None:
        raise ValueError("broken batch")


class Bench:
    """A running runtime with a probe pool and others beside it."""

    def __init__(self) -> None:
        self.progress = RuntimeProgress()
        self.batches_before_answer = 0
        self.probe = ProbePool(self._count)
        self.gated = GatedPool()
        self.broken = BrokenPool()
        self.runtime = Runtime({}, prefetch_batches=1)
        self.runtime.pools = (self.gated, self.broken, self.probe)

    def _count(self) -> None:
        assert threading.current_thread() is self.runtime
        self.batches_before_answer = self.gated.batches
        self.progress.probes += 1

    def answered(self, count: int) -> None:
        eventually(lambda: self.progress.probes == count, f"{count} probes are answered")


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.runtime.start()
    yield bench
    bench.gated.gate.release(100)
    bench.runtime.shutdown()
    bench.runtime.join(timeout=30)
    assert not bench.runtime.is_alive()


def test_an_idle_runtime_answers_every_probe(bench: Bench) -> None:
    for count in range(1, 6):
        bench.probe.ask()
        bench.answered(count)


def test_a_busy_runtime_answers_ahead_of_the_batches_that_wait(bench: Bench) -> None:
    for _ in range(10):
        bench.gated.ask()
    assert bench.gated.entered.acquire(timeout=30)
    bench.probe.ask()
    assert bench.progress.probes == 0
    bench.gated.gate.release(10)
    bench.answered(1)
    # A few were fetched before the probe was asked.
    assert bench.batches_before_answer < 6


def test_a_batch_that_fails_does_not_keep_probes_from_being_answered(bench: Bench) -> None:
    bench.broken.ask()
    bench.probe.ask()
    bench.answered(1)


def members_of_pools(source: object) -> set[str]:
    """The attributes of every variable called `pool` in a class's source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(source)))  # type: ignore[arg-type]  # a class, untyped upstream
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pool"
    }


@pytest.mark.parametrize("user", [Runtime, ModuleContainer], ids=lambda user: str(user.__name__))
def test_a_probe_pool_has_every_member_that_its_users_use(user: object) -> None:
    used = members_of_pools(user)
    assert "is_alive" in used
    # It says that it is alive from the beginning, so nobody starts it.
    assert sorted(name for name in used - {"start"} if not hasattr(ProbePool(lambda: None), name)) == []
    assert ProbePool(lambda: None).is_alive()
