"""Brings the engine's counters to the ledger: what the socket says while it runs, what the tallies say after it.

All of it is cumulative, so the order and the number of deliveries do not matter; only that an incarnation is closed
after its tallies and proofs were taken, and that they are deleted after it was closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, Protocol

from plumised.engine.proofs import ProofCollection
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.tally import Tally, tallies
from plumised.ledger import ImplausibleUsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from plumised.ledger import Proof

_log: Final = logging.getLogger(__name__)


class UsageSink(Protocol):
    """Where counters and proofs are kept.

    Every call may raise `PlumisedError` and is repeated then, apart from counters that are `ImplausibleUsageError`.
    """

    async def record_usage(self, incarnation: str, handler: str, usage: Usage) -> object:
        """Keep the counters of one handler; nothing changes if the incarnation is closed."""

    async def add_proofs(self, proofs: Iterable[Proof]) -> object:
        """Keep proofs of requests that were counted; known keys change nothing."""

    async def close_incarnation(self, incarnation: str) -> object:
        """No handler of this incarnation counts any more; may be repeated."""


class UsageBook:
    """The counters and proofs on their way to the sink. At most one delivery is under way.

    Args:
        sink: keeps them.
        directory: of the tallies.
        retry_s: pause after the sink has refused.
        proofs_s: between two looks at the proofs of the running incarnation.
    """

    def __init__(self, sink: UsageSink, directory: Path, retry_s: float, proofs_s: float = 5.0) -> None:
        self._sink = sink
        self._directory = directory
        self._retry_s = retry_s
        self._proofs_s = proofs_s
        self._proofs = ProofCollection(directory)
        self._current: str | None = None
        self._latest: dict[str, Usage] = {}
        self._pending: dict[tuple[str, str], Usage] = {}
        self._ended: set[str] = set()
        self._refused = False
        self._wake = asyncio.Event()
        self._delivery = asyncio.Lock()

    @property
    def usage(self) -> Usage:
        """The sum over all handlers of the incarnation that was begun last."""
        return total(self._latest.values())

    def begin(self, incarnation: str) -> None:
        """Counters of this incarnation are expected."""
        self._current = incarnation
        self._latest.clear()

    def take(self, incarnation: str, handler: str, usage: Usage) -> None:
        """Counters that came over the socket."""
        if incarnation == self._current:
            self._latest[handler] = usage
        self._pending[incarnation, handler] = usage
        self._wake.set()

    async def end(self, incarnation: str) -> None:
        """All processes of this incarnation have ended: take its tallies and close it; later if the sink refuses."""
        self._ended.add(incarnation)
        await self._try()

    async def end_others(self) -> None:
        """The same for every incarnation that left tallies, except the one that was begun last."""
        found = await asyncio.to_thread(_found, self._directory)
        incarnations = {tally.incarnation for tally in found} | await self._proofs.incarnations()
        self._ended |= incarnations - {self._current}
        if self._ended:
            await self._try()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._try():
                await asyncio.sleep(self._retry_s)

    async def collect_proofs(self) -> None:
        """Take over what the running incarnation has proven, again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._proofs_s)
            await self._try(self._collect)

    async def _collect(self) -> None:
        incarnation = self._current
        if incarnation is None or incarnation in self._ended:
            return
        for tally, proofs in await self._proofs.news(incarnation):
            # Nothing is proven that is not counted.
            if tally.usage is not None and await self._record(incarnation, tally.handler, tally.usage):
                await self._sink.add_proofs(proofs)
        await self._proofs.took()

    async def _try(self, deliver: Callable[[], Awaitable[None]] | None = None) -> bool:
        try:
            async with self._delivery:
                await (deliver or self._deliver)()
        except (PlumisedError, OSError) as error:
            if not self._refused:
                code = error.code if isinstance(error, PlumisedError) else "ledger-unavailable"
                trouble = told(LogEvent.LEDGER_TROUBLE, reason=code)
                _log.error("usage cannot be kept at the moment, it is tried again: %s", error, extra=trouble)
            self._refused = True
            self._wake.set()
            return False
        if self._refused:
            _log.info("usage is kept again", extra=told(LogEvent.LEDGER_RECOVERED))
        self._refused = False
        return True

    async def _deliver(self) -> None:
        for (incarnation, handler), usage in list(self._pending.items()):
            await self._record(incarnation, handler, usage)
            if self._pending.get((incarnation, handler)) is usage:
                del self._pending[incarnation, handler]
        for incarnation in sorted(self._ended):
            await self._close(incarnation)
            self._ended.discard(incarnation)

    async def _close(self, incarnation: str) -> None:
        found = await asyncio.to_thread(_found, self._directory)
        mine = [tally for tally in found if tally.incarnation == incarnation]
        counted = []
        for tally in mine:
            if tally.usage is None:
                _log.warning("the tally %s is damaged; what its handler served last may be uncounted", tally.path)
                continue
            if incarnation == self._current:
                self._latest[tally.handler] = tally.usage
            if await self._record(incarnation, tally.handler, tally.usage):
                counted.append(tally)
        for _, proofs in await self._proofs.rest(incarnation, counted):
            await self._sink.add_proofs(proofs)
        await self._sink.close_incarnation(incarnation)
        # Before the tallies, without which they say nothing.
        await self._proofs.delete(incarnation)
        await asyncio.to_thread(_delete, mine)

    async def _record(self, incarnation: str, handler: str, usage: Usage) -> bool:
        """Whether it is kept."""
        try:
            await self._sink.record_usage(incarnation, handler, usage)
        except ImplausibleUsageError as error:
            # Repeating it would hold up everything after it for ever.
            _log.error("counters of %s are not taken: %s", handler, error)
            return False
        return True


def total(usages: Iterable[Usage]) -> Usage:
    """The sum of the counters."""
    kinds = [(usage.inference, usage.forward, usage.backward) for usage in usages]
    inference, forward, backward = (_sum(kind[index] for kind in kinds) for index in range(3))
    return Usage(inference, forward, backward)


def _sum(counters: Iterable[Counters]) -> Counters:
    requests = steps = tokens = service_us = 0
    for one in counters:
        requests += one.requests
        steps += one.steps
        tokens += one.tokens
        service_us += one.service_us
    return Counters(requests, steps, tokens, service_us)


def _found(directory: Path) -> list[Tally]:
    return list(tallies(directory))


def _delete(found: Iterable[Tally]) -> None:
    for tally in found:
        tally.path.unlink(missing_ok=True)
        # Other files in the directory are not ours to delete.
        with contextlib.suppress(OSError):
            tally.path.parent.rmdir()
