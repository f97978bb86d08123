"""Ends the engine when it is told to, at any moment of its life."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Drain = Callable[[Callable[[], bool]], None]


class Stopper:
    """Carries out what SIGINT asks for: to drain while requests are served, to leave at once otherwise.

    It does so in a thread of its own. An exception that a signal handler throws into the main thread comes up anywhere:
    within native code that turns it into another one, between a fork and what belongs to it, in a finally clause.

    A second request cuts the draining short; a third one leaves at once, whatever the ordered end is waiting for.
    """

    def __init__(self) -> None:
        self._drain: Drain | None = None
        # Its put may interrupt itself, which that of other queues, and starting a thread, may not.
        self._requests: SimpleQueue[None] = SimpleQueue()

    def interrupt(self) -> None:
        """Ask once. May be called by a signal handler, and before `start`."""
        self._requests.put(None)

    def start(self, leave: Callable[[], None]) -> None:
        """Start to carry out.

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
        self._requests.get()
        if (drain := self._drain) is not None:
            drain(lambda: not self._requests.empty())
            if not self._requests.empty():
                self._requests.get()
            self._requests.get()
        leave()
