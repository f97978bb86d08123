"""Ends the engine when it is told to, at any moment of its life."""

from __future__ import annotations

import os
import select
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Drain = Callable[[Callable[[], bool]], None]


class Stopper:
    """Carries out what SIGINT asks for: to drain while requests are served, to leave at once otherwise.

    It does so in a thread of its own, which the signal wakes over a pipe. A signal handler would run when the main
    thread gets to it, which may be minutes later if the signal came just before that thread began to wait, or went to
    another one. And an exception thrown into the main thread comes up anywhere: within native code that turns it into
    another one, between a fork and what belongs to it, in a finally clause.

    A second request cuts the draining short; a third one leaves at once, whatever the ordered end is waiting for.
    """

    def __init__(self) -> None:
        self._drain: Drain | None = None
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """From here on SIGINT asks. To be called by the main thread, once in a process."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, lambda _signal, _frame: None)
        # A forked child's signals are its own.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def interrupt(self) -> None:
        """Ask once, as SIGINT does."""
        os.write(self._write, bytes([signal.SIGINT]))

    def start(self, leave: Callable[[], None]) -> None:
        """Start to carry out, what was asked before included.

        Args:
            leave: ends the process; does not return.
        """
        threading.Thread(target=self._run, args=(leave,), name="plumised-stopper", daemon=True).start()

    def serving(self, drain: Drain | None) -> None:
        """From here on requests are served, or with None they are not.

        Args:
            drain: brings serving to its end, in order; takes what tells whether to make it short.
        """
        self._drain = drain

    def _run(self, leave: Callable[[], None]) -> None:
        self._take()
        if (drain := self._drain) is not None:
            drain(self._asked)
            if self._asked():
                self._take()
            self._take()
        leave()

    def _asked(self) -> bool:
        return bool(select.select([self._read], [], [], 0)[0])

    def _take(self) -> None:
        select.select([self._read], [], [])
        os.read(self._read, 1)
