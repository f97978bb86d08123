"""Keeps a part of the daemon running that must never take another one down."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from plumised.events import LogEvent, told
from plumised.observe.status import Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log: Final = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0


class Endurance:
    """Runs one part and, should a defect end it, runs it again after a pause.

    The parts handle what they expect by themselves. What comes here is a mistake in the program: it is logged with its
    traceback and shown in the status, and everything else goes on.

    Args:
        name: of the part, for people.
        run: the part; returns when it is done for good.
        clock: wall clock, seconds since the epoch.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._run = run
        self._clock = clock
        self._sleep = sleep
        self._fault: Trouble | None = None

    @property
    def fault(self) -> Trouble | None:
        """What stopped the part, until it has started again."""
        return self._fault

    async def run(self) -> None:
        """Until the part is done, or cancelled."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001 -- whatever it is must not reach the other parts; it is shown
                now = self._clock()
                self._fault = Trouble(
                    "internal",
                    f"{self._name} stopped because of a defect in plumised: {type(error).__name__}: {error}",
                    "Report it with the traceback in the log; it is started again by itself.",
                    now,
                    now + pause_s,
                )
                _log.exception(
                    "%s stopped because of a defect; it is started again in %.0f s",
                    self._name,
                    pause_s,
                    extra=told(LogEvent.PART_FAILED, reason="internal", retry_s=pause_s),
                )
            else:
                return
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            self._fault = None
