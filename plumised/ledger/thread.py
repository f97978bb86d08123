"""The ledger's face for asyncio: one writer thread, so that no disk ever blocks the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from plumised.ledger.errors import LedgerBusyError, LedgerDamagedError, LedgerError, LedgerUnavailableError
from plumised.ledger.ledger import Ledger
from plumised.ledger.merging import later_usage, require_plausible
from plumised.ledger.records import LedgerHealth, Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import TracebackType

    from plumised.ipc.messages import Usage
    from plumised.ledger.records import (
        AcceptedReport,
        JsonValue,
        Proof,
        ReportBooks,
        ReportInFlight,
        StoredProof,
        StoredTransaction,
    )

T = TypeVar("T")

_GREATEST_QUEUE = 256
"""Calls that may wait for the writer. More means that the disk has stopped."""

_ANSWER_TIMEOUT_S = 30.0
"""How long a caller waits for the writer. What it asked for may still be done later: every call may be repeated."""


class LedgerThread:
    """An open ledger. Use it as an asynchronous context manager, or call `close`.

    Calls run in the order in which they were made. Every call may raise LedgerError: LedgerBusyError when the disk does
    not keep up, LedgerUnavailableError (LedgerFullError) when it refuses, LedgerDamagedError. A call that raised
    LedgerUnavailableError changed nothing and may be repeated. A cancelled call is still carried out.
    """

    def __init__(self, ledger: Ledger, executor: ThreadPoolExecutor, answer_timeout_s: float) -> None:
        self._ledger = ledger
        self._executor = executor
        self._answer_timeout_s = answer_timeout_s
        self._waiting = 0
        self._closed = False
        self._news: dict[tuple[str, str], Usage] = {}
        self._arrived = 0
        self._recorded = 0
        self._refused = False
        self._committed = Totals()
        self._recording = asyncio.Lock()
        self._damage: LedgerDamagedError | None = None
        self._damage_found = asyncio.Event()

    @classmethod
    async def open(
        cls,
        path: Path,
        clock: Callable[[], float],
        answer_timeout_s: float = _ANSWER_TIMEOUT_S,
    ) -> LedgerThread:
        """Open the ledger at `path`, made if it is missing.

        Args:
            path: of the database file; its directory must exist and be writable.
            clock: wall clock, seconds since the epoch.
            answer_timeout_s: after how long a call gives up with LedgerBusyError.

        Raises:
            OperatorError: in use by another process, from a later version, not a ledger, or a forbidden directory.
            LedgerError: the disk refuses at the moment.
        """
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        try:
            ledger = await asyncio.get_running_loop().run_in_executor(executor, Ledger, path, clock)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        return cls(ledger, executor, answer_timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Carry out what waits, close the file and release the lock. May be called again."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._ledger.close)
        finally:
            self._executor.shutdown(wait=False)

    def health(self) -> LedgerHealth:
        """What an operator should know; reads memory only."""
        return LedgerHealth(
            set_aside=self._ledger.set_aside,
            # What is only on its way to the disk is no trouble.
            unwritten=max(self._ledger.usage.unwritten, len(self._news)) if self._refused else 0,
            closed=self._closed,
        )

    async def damaged(self) -> LedgerDamagedError:
        """Wait until a call finds the file damaged; return what it found.

        The open file does not mend: what is to be written waits for a process that opens it anew and sets it aside.
        """
        await self._damage_found.wait()
        assert self._damage is not None  # noqa: S101 -- set before the event
        return self._damage

    async def record_usage(self, incarnation: str, handler: str, usage: Usage) -> Totals:
        """Merge a handler's cumulative counters by maximum and commit; return the totals.

        Repeated, late and reordered news is harmless; news of a closed incarnation is ignored. Calls that arrive while
        the writer is busy share one commit. What the disk refuses is kept and written with the next success.

        Raises:
            ImplausibleUsageError: a counter that no machine can reach; nothing of it is kept.
            LedgerError: not committed yet.
        """
        require_plausible(incarnation, handler, usage)
        known = self._news.get((incarnation, handler))
        self._news[incarnation, handler] = usage if known is None else later_usage(known, usage)
        self._arrived += 1
        mine = self._arrived
        async with self._recording:
            if self._recorded >= mine:
                return self._committed
            return await self._record(self._ledger.usage.record)

    async def close_incarnation(self, incarnation: str) -> Totals:
        """Fold an incarnation that is over into the base of the totals; return them. May be repeated."""
        async with self._recording:
            return await self._record(lambda news: self._ledger.usage.close(incarnation, news))

    async def totals(self) -> Totals:
        """All committed work."""
        return await self._call(self._ledger.usage.totals)

    async def report_books(self) -> ReportBooks:
        """All that a report is planned from, as of one moment."""
        return await self._call(self._ledger.reports.books)

    async def next_timestamp(self, now: int) -> int:
        """Give out `now`, or the second after the last one given out where that is later. Durable on return."""
        return await self._call(lambda: self._ledger.reports.next_timestamp(now))

    async def skip_timestamps(self, until: int) -> None:
        """Make the next timestamp later than `until`."""
        await self._call(lambda: self._ledger.reports.skip_timestamps(until))

    async def start_report(self, report: ReportInFlight) -> None:
        """Note a signed report before it is sent. Raises StaleReportError while another one is in flight."""
        await self._call(lambda: self._ledger.reports.start(report))

    async def accept_report(self, timestamp: int, at: float) -> AcceptedReport:
        """The Oracle has booked the report in flight. `at`: wall clock. Raises StaleReportError if it is another."""
        return await self._call(lambda: self._ledger.reports.accept(timestamp, at))

    async def drop_report(self, timestamp: int) -> None:
        """The Oracle never books the report in flight. Raises StaleReportError if it is another."""
        await self._call(lambda: self._ledger.reports.drop(timestamp))

    async def add_proofs(self, proofs: Iterable[Proof]) -> None:
        """Put proofs into the outbox; known keys are left as they are. Raises ValueError for an empty one."""
        kept = tuple(proofs)
        await self._call(lambda: self._ledger.proofs.add(kept))

    async def waiting_proofs(self, limit: int) -> tuple[StoredProof, ...]:
        """The oldest proofs that no report carries."""
        return await self._call(lambda: self._ledger.proofs.waiting(limit))

    async def recent_proofs(self, after: int, limit: int) -> tuple[StoredProof, ...]:
        """The newest proofs with an id above `after`, oldest first, whatever the reports have done with them."""
        return await self._call(lambda: self._ledger.proofs.recent(after, limit))

    async def count_waiting_proofs(self) -> int:
        """How many proofs no report carries."""
        return await self._call(self._ledger.proofs.count_waiting)

    async def refuse_proofs(self, ids: Iterable[int]) -> None:
        """Keep these out of every report for ever."""
        kept = tuple(ids)
        await self._call(lambda: self._ledger.proofs.refuse(kept))

    async def save_transaction(self, transaction: StoredTransaction) -> None:
        """Store it in place of what is known of its (chain_id, sender, nonce). Durable on return."""
        await self._call(lambda: self._ledger.transactions.save(transaction))

    async def unfinished_transactions(self, chain_id: int, sender: str) -> tuple[StoredTransaction, ...]:
        """Those that can still change, lowest nonce first."""
        return await self._call(lambda: self._ledger.transactions.unfinished(chain_id, sender))

    async def recent_transactions(self, limit: int) -> tuple[StoredTransaction, ...]:
        """The last ones to change, newest first."""
        return await self._call(lambda: self._ledger.transactions.recent(limit))

    async def fact(self, key: str) -> JsonValue:
        """What was set last under `key`, or None."""
        return await self._call(lambda: self._ledger.facts.get(key))

    async def set_fact(self, key: str, value: JsonValue) -> None:
        """Remember `value`; None forgets. Durable on return. Raises ValueError for a number that is not finite."""
        await self._call(lambda: self._ledger.facts.set(key, value))

    async def _record(self, work: Callable[[tuple[tuple[str, str, Usage], ...]], Totals]) -> Totals:
        news, self._news = self._news, {}
        upto = self._arrived
        try:
            self._committed = await self._call(lambda: work(tuple((*key, usage) for key, usage in news.items())))
        except BaseException as error:
            # A caller that gives up says nothing of the disk.
            self._refused |= isinstance(error, LedgerError)
            # The writer may never have seen it. Where it did, merging twice is harmless.
            for key, usage in news.items():
                self._news[key] = later_usage(usage, self._news.get(key, usage))
            raise
        self._recorded = upto
        self._refused = False
        return self._committed

    async def _call(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise LedgerUnavailableError("the ledger is closed", "nothing to do: plumised is stopping")
        if self._waiting >= _GREATEST_QUEUE:
            raise LedgerBusyError(f"{self._waiting} calls wait for the ledger", "check the disk of the state directory")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        future.add_done_callback(self._answered)
        done, _ = await asyncio.wait({future}, timeout=self._answer_timeout_s)
        if not done:
            raise LedgerBusyError(
                f"the ledger did not answer within {self._answer_timeout_s:g} s",
                "check the disk of the state directory",
            )
        return future.result()

    def _answered(self, future: asyncio.Future[T]) -> None:
        self._waiting -= 1
        error = None if future.cancelled() else future.exception()
        if isinstance(error, LedgerDamagedError):
            self._damage = error
            self._damage_found.set()
