"""The Oracle's work behind its HTTP paths: check, book, register."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.devnet.oracle.booking import book, check_bounds, check_sequence
from tests.devnet.oracle.refusal import Refused, internal, not_registered
from tests.devnet.oracle.registry import ChainUnreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.devnet.oracle.announcement import Announcement
    from tests.devnet.oracle.faults import Faults
    from tests.devnet.oracle.registry import Registry
    from tests.devnet.oracle.report import Report
    from tests.devnet.oracle.store import Store


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running Oracle.

    Attributes:
        clock: Unix time in seconds, before any skew.
    """

    store: Store
    registry: Registry
    faults: Faults
    clock: Callable[[], float]

    def now(self) -> float:
        """The Oracle's own time, Unix seconds."""
        return self.clock() + self.faults.skew_s

    async def accept(self, report: Report, pause: Callable[[], Awaitable[None]]) -> int:
        """Book one report whose fields, time and signature are right, and return how many tokens it added.

        There is no lock from the check to the booking, as in the Oracle service: of two reports of one agent at
        once both are accepted, and counts can be lost.

        Args:
            report: from read_report.
            pause: awaited between the checks and the booking.

        Raises:
            Refused: the report is stale, the agent is not registered, a number is too large, the database is down.
        """
        seen = self.store.account(report.agent)
        check_sequence(seen, report)
        if not await self._is_registered(report.agent):
            raise not_registered()
        check_bounds(report)
        await pause()
        if self.faults.take("database-down"):
            raise internal()
        current = self.store.account(report.agent)
        after = book(seen, current, report)
        booked = after.booked_tokens - seen.booked_tokens
        self.store.write(after, report, booked, self.now())
        return booked

    async def register(self, announcement: Announcement) -> bool:
        """Take a node in, and return whether its wallet had to be registered on chain for it.

        Raises:
            Refused: the chain cannot be reached.
        """
        sponsored = False
        try:
            if not await self._ask(announcement.agent):
                await self.registry.sponsor(announcement.agent, f"node-{announcement.agent[-8:]}")
                sponsored = True
        except ChainUnreachable as error:
            raise Refused(500, "Internal server error") from error
        self.store.add_registration(announcement, sponsored=sponsored)
        return sponsored

    async def _is_registered(self, agent: str) -> bool:
        try:
            return await self._ask(agent)
        except ChainUnreachable:
            return False

    async def _ask(self, agent: str) -> bool:
        if self.faults.take("rpc-down"):
            raise ChainUnreachable("switched off by a fault")
        # Even a registry that answers at once is another party: others get a turn meanwhile.
        await asyncio.sleep(0)
        return await self.registry.is_registered(agent)
