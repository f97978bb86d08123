"""Announcing the node to the Oracle, which also registers an unregistered wallet on the chain at its own cost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from plumised.oracle.answers import Announced, Failed, Unsent, classify_announcement
from plumised.oracle.clocks import ClockComparison
from plumised.oracle.formats import HEALTH_PATH, REGISTER_PATH, Announcement, announcement_body, announcement_text
from plumised.oracle.problems import clock_is_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.ledger import LedgerThread
    from plumised.oracle.client import OracleClient
    from plumised.oracle.signing import Signer

TIMEOUT_S = 60.0
"""The Oracle registers on the chain before it answers: about 4 s, up to 30 s."""

GREATEST_SKEW_S = 50.0
"""How far the clock may be off the Oracle's, whose own limit is 60 s."""


class Announcer:
    """Announces one agent's node to one Oracle, one announcement at a time."""

    def __init__(
        self,
        *,
        client: OracleClient,
        signer: Signer,
        ledger: LedgerThread,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Set up.

        Args:
            client: of the Oracle.
            signer: of the agent.
            ledger: gives timestamps, because every signed one is later than the last.
            clock: wall clock, seconds since the epoch.
            monotonic: seconds that no clock setting moves.
            timeout_s: how long the Oracle may take.
        """
        self._client = client
        self._signer = signer
        self._ledger = ledger
        self._clock = clock
        self._timeout_s = timeout_s
        self._clocks = ClockComparison(clock, monotonic)
        self._one = asyncio.Lock()

    async def announce(self, endpoint: str, capabilities: tuple[str, ...]) -> Announced | Failed:
        """Tell the Oracle where the node is. May be repeated.

        Nothing is signed while the clock is off: reports must be later than every timestamp that was signed.

        Args:
            endpoint: URL whose host is an IP address or has a dot.
            capabilities: `inference` and the model's name, as a rule.

        Raises:
            LedgerError: nothing was sent.
        """
        async with self._one:
            started = self._clock()
            reply = await self._client.get(HEALTH_PATH)
            self._clocks.learn(started, reply)
            skew_s = self._clocks.skew_s or 0.0
            if abs(skew_s) > GREATEST_SKEW_S:
                return Unsent(clock_is_off(skew_s).message)
            announcement = Announcement(
                address=self._signer.address,
                endpoint=endpoint,
                capabilities=capabilities,
                timestamp=await self._ledger.next_timestamp(int(self._clock())),
            )
            signature = await asyncio.to_thread(self._signer.sign_text, announcement_text(announcement))
            body = announcement_body(announcement, signature)
            reply = await self._client.post(REGISTER_PATH, body, timeout_s=self._timeout_s)
            return classify_announcement(reply)
