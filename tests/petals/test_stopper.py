"""How often it is asked to stop decides how an engine ends."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from plumised.petals.stopping import Stopper
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Life:
    """Writes down what a stopper does."""

    def __init__(self) -> None:
        self.stopper = Stopper()
        self.events: list[str] = []
        self.sessions_open = threading.Event()
        self.sessions_open.set()

    def leave(self) -> None:
        self.events.append("left")

    def drain(self, cut_short: Callable[[], bool]) -> None:
        self.events.append("draining")
        eventually(lambda: cut_short() or not self.sessions_open.is_set(), "the sessions have ended or are cut off")
        self.events.append("cut short" if self.sessions_open.is_set() else "drained")

    def happened(self, *events: str) -> None:
        eventually(lambda: self.events == [*events], f"what happens is {events}", explain=lambda: str(self.events))


@pytest.fixture
def life() -> Life:
    return Life()


@pytest.fixture
def listening(life: Life) -> Iterator[Life]:
    before = signal.getsignal(signal.SIGINT)
    descriptor = signal.set_wakeup_fd(-1)
    life.stopper.listen()
    yield life
    signal.signal(signal.SIGINT, before)
    signal.set_wakeup_fd(descriptor)


def test_what_does_not_serve_leaves_when_asked(life: Life) -> None:
    life.stopper.start(life.leave)
    assert life.events == []
    life.stopper.interrupt()
    life.happened("left")


def test_what_was_asked_before_the_start_counts(life: Life) -> None:
    life.stopper.interrupt()
    life.stopper.start(life.leave)
    life.happened("left")


def test_what_serves_is_drained_and_left_to_its_ordered_end(life: Life) -> None:
    life.stopper.serving(life.drain)
    life.stopper.start(life.leave)
    life.stopper.interrupt()
    life.happened("draining")
    life.sessions_open.clear()
    life.happened("draining", "drained")


def test_a_second_request_cuts_the_draining_short_and_a_third_one_leaves(life: Life) -> None:
    life.stopper.serving(life.drain)
    life.stopper.start(life.leave)
    life.stopper.interrupt()
    life.happened("draining")
    life.stopper.interrupt()
    life.happened("draining", "cut short")
    life.stopper.interrupt()
    life.happened("draining", "cut short", "left")


def test_what_serves_no_longer_leaves_when_asked(life: Life) -> None:
    life.stopper.serving(life.drain)
    life.stopper.serving(None)
    life.stopper.start(life.leave)
    life.stopper.interrupt()
    life.happened("left")


def test_sigint_asks_even_while_the_main_thread_does_not_get_to_its_handlers(listening: Life) -> None:
    left = threading.Event()
    listening.stopper.start(left.set)
    # Another thread takes the signal, and nothing wakes this one.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        os.kill(os.getpid(), signal.SIGINT)
        assert left.wait(60)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_a_forked_child_s_sigint_asks_nothing_of_its_parent(listening: Life) -> None:
    listening.stopper.start(listening.leave)
    pid = os.fork()
    if pid == 0:
        signal.raise_signal(signal.SIGINT)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert not listening.stopper._asked()
    assert listening.events == []
