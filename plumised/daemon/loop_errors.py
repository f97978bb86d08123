"""What the event loop says of errors that belong to no task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from plumised.errors import NO_DESCRIPTORS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log: Final = logging.getLogger(__name__)

PAUSE_S: Final = 60.0
"""Between two warnings that nobody can be let in; asyncio gives one for each try, many at once and every second."""


class LoopErrors:
    """An exception handler for `loop.set_exception_handler`.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told_at: float | None = None

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Tell in one line, and seldom, that descriptors are used up; everything else as asyncio does."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in NO_DESCRIPTORS:
            loop.default_exception_handler(context)
            return
        now = self._clock()
        if self._told_at is None or now - self._told_at >= PAUSE_S:
            self._told_at = now
            _log.warning(
                "no connection can be let in: there is no file descriptor left (%s). Raise LimitNOFILE= of the unit, "
                "or look for what uses descriptors up",
                error.strerror,
            )
