"""Keeps the agent alive on the chain: one heartbeat at a time, only while it is true."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Never

from plumised.chain import pulse
from plumised.chain.orders import Failed, Outcome
from plumised.chain.problems import ChainProblem
from plumised.chain.pulse import Pulse
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from plumised.chain.timing import Timing
    from plumised.chain.transactions import TransactionQueue


_log = logging.getLogger(__name__)


class Heartbeats:
    """Sends heartbeats through the queue.

    Args:
        queue: sends them, after asking the chain whether they would succeed.
        interval_s: between heartbeats, give or take a tenth.
        tick_s: between two looks at what is due.
        serving: whether a heartbeat would be true at the moment.
        registered: whether the agent is registered, as far as is known.
        refused: called when the chain treats the agent as not registered.
        timing: time and chance.

    Attributes:
        pulse: what became of them.
    """

    def __init__(
        self,
        queue: TransactionQueue,
        *,
        interval_s: float,
        tick_s: float,
        serving: Callable[[], bool],
        registered: Callable[[], bool],
        refused: Callable[[], None],
        timing: Timing,
    ) -> None:
        self.pulse = Pulse()
        self._queue = queue
        self._interval_s = interval_s
        self._tick_s = tick_s
        self._serving = serving
        self._registered = registered
        self._refused = refused
        self._timing = timing
        self._due = timing.monotonic()

    def adopt(self, interval_s: float) -> None:
        """Send heartbeats at this interval from now on."""
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self._due = min(self._due, self._timing.monotonic() + self._next_in_s(failed=False))

    def problem(self) -> ChainProblem | None:
        """Return why the last heartbeat that was due is missing, with the time of the next try; None if it is not."""
        if self.pulse.last_missed is None:
            return None
        left_s = max(0.0, self._due - self._timing.monotonic())
        return replace(self.pulse.last_missed, retry_at=self._timing.clock() + left_s)

    def taken_up(self, outcome: Outcome) -> None:
        """Count a heartbeat that an earlier process signed. A failed one leaves the next one due as it was."""
        counted = pulse.after(self.pulse, outcome, self._timing.clock())
        if counted.missed == self.pulse.missed:
            self.pulse = counted
            self._due = max(self._due, self._timing.monotonic() + self._next_in_s(failed=False))
        else:
            self._miss(counted)

    async def run(self, tasks: asyncio.TaskGroup) -> Never:
        """Send what is due until cancelled; a heartbeat on its way is a task of the group. May be called again."""
        pending: asyncio.Task[Outcome] | None = None
        while True:
            if pending is not None and pending.done():
                self._take(pending.result())
                pending = None
            now = self._timing.monotonic()
            if not self._serving():
                self._due = max(self._due, now)
            elif now >= self._due:
                pending = self._beat(now, tasks, pending)
            await self._timing.sleep(self._tick_s)

    def _beat(
        self, now: float, tasks: asyncio.TaskGroup, pending: asyncio.Task[Outcome] | None
    ) -> asyncio.Task[Outcome] | None:
        """Do what is due; return the heartbeat that is on its way after it."""
        if pending is not None:
            self._miss(pulse.missed(self.pulse, pulse.PENDING))
            self._due = now + self._next_in_s(failed=False)
        elif self._registered():
            self._due = now + self._next_in_s(failed=False)
            return tasks.create_task(self._send(), name="chain-heartbeat")
        elif now - self._due >= pulse.RETRY_PART * self._interval_s:
            # A registration under way is given that long before its heartbeat counts as missed.
            self._miss(pulse.missed(self.pulse, pulse.UNREGISTERED))
            self._due = now
        return pending

    def _take(self, outcome: Outcome) -> None:
        counted = pulse.after(self.pulse, outcome, self._timing.clock())
        if counted.missed == self.pulse.missed:
            self._confirm(counted)
            return
        self._miss(counted)
        self._due = min(self._due, self._timing.monotonic() + self._next_in_s(failed=True))
        if pulse.asks_for_registration(outcome):
            self._refused()

    def _confirm(self, counted: Pulse) -> None:
        # One in two minutes is too much to read; the first, and the first after a missed one, are news.
        news = self.pulse.confirmed == 0 or self.pulse.last_missed is not None
        self.pulse = counted
        confirmed = told(LogEvent.HEARTBEAT_CONFIRMED, transaction=counted.last_hash)
        _log.log(
            logging.INFO if news else logging.DEBUG, "a heartbeat is mined: %s", counted.last_hash, extra=confirmed
        )

    def _miss(self, counted: Pulse) -> None:
        before, self.pulse = self.pulse.last_missed, counted
        reason = counted.last_missed
        if reason is not None and (before is None or before.code != reason.code):
            missed = told(LogEvent.HEARTBEAT_MISSED, reason=reason.code)
            _log.warning("missed a heartbeat: %s (%s). %s", reason.message, reason.code, reason.remedy, extra=missed)

    def _next_in_s(self, *, failed: bool) -> float:
        return pulse.next_in_s(self._interval_s, self._timing.chance(), failed=failed)

    async def _send(self) -> Outcome:
        try:
            return await self._queue.submit(pulse.ORDER)
        except PlumisedError as error:
            return Failed(ChainProblem.of(error))
