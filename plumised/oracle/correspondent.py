"""The effects of reporting: asking, signing and posting. It decides nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from plumised.ledger import ReportInFlight
from plumised.oracle.answers import classify_health, classify_history, classify_report
from plumised.oracle.formats import (
    GREATEST_UPTIME_S,
    HEALTH_PATH,
    Claim,
    Dialect,
    history_path,
    report_body,
    signed_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.ledger import Account, LedgerThread
    from plumised.oracle.answers import Outcome, Sight
    from plumised.oracle.client import OracleClient
    from plumised.oracle.clocks import ClockComparison
    from plumised.oracle.shares import Share
    from plumised.oracle.signing import Signer


class Correspondent:
    """Speaks with one Oracle for one agent, and learns its time from every answer."""

    def __init__(
        self,
        client: OracleClient,
        signer: Signer,
        ledger: LedgerThread,
        clocks: ClockComparison,
        monotonic: Callable[[], float],
    ) -> None:
        """Set up. The uptime that reports tell counts from here.

        Args:
            client: of the Oracle.
            signer: of the agent.
            ledger: gives timestamps and proofs.
            clocks: gives the time and learns the Oracle's.
            monotonic: seconds that no clock setting moves.
        """
        self._client = client
        self._signer = signer
        self._ledger = ledger
        self._clocks = clocks
        self._monotonic = monotonic
        self._started = monotonic()

    def write_to(self, client: OracleClient, clocks: ClockComparison) -> None:
        """Speak with this Oracle from now on, by these clocks."""
        self._client, self._clocks = client, clocks

    async def look(self, account: Account, timeout_s: float | None) -> Sight:
        """Ask for the last accepted report of `account`, or just for the time where its dialect has no history."""
        started = self._clocks.now().wall
        if Dialect(account.dialect).has_history:
            reply = await self._client.get(history_path(account.agent), timeout_s=timeout_s)
            sight = classify_history(reply)
        else:
            reply = await self._client.get(HEALTH_PATH, timeout_s=timeout_s)
            sight = classify_health(reply)
        self._clocks.learn(started, reply)
        return sight

    async def sign(self, share: Share, account: Account, greatest_proofs: int) -> ReportInFlight:
        """Make a report of `share` with the oldest waiting proofs. It must be in the ledger before it is posted.

        Raises:
            LedgerError: no report was made.
        """
        dialect = Dialect(account.dialect)
        proofs = await self._ledger.waiting_proofs(greatest_proofs) if dialect.carries_proofs else ()
        claim = Claim(
            agent=account.agent,
            tokens=share.tokens,
            requests=share.requests,
            average_latency_ms=share.average_latency_ms,
            uptime_s=min(int(self._monotonic() - self._started), GREATEST_UPTIME_S),
            timestamp=await self._ledger.next_timestamp(int(self._clocks.now().wall)),
            proofs=tuple(stored.proof for stored in proofs),
        )
        # Elliptic curves in Python take tens of milliseconds.
        signature = await asyncio.to_thread(self._signer.sign_text, signed_text(dialect, claim))
        return ReportInFlight(
            account=account,
            timestamp=claim.timestamp,
            body=report_body(dialect, claim, signature),
            base=share.base,
            covered=share.covered,
            proofs=tuple(stored.id for stored in proofs),
        )

    async def post(self, report: ReportInFlight, timeout_s: float | None) -> Outcome:
        """Send a report that is in the ledger."""
        dialect = Dialect(report.account.dialect)
        started = self._clocks.now().wall
        reply = await self._client.post(dialect.report_path, report.body, timeout_s=timeout_s)
        self._clocks.learn(started, reply)
        return classify_report(dialect, reply)
