"""The loop that gets the ledger's totals booked by the Oracle: exactly once, whatever fails."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from plumised.events import LogEvent, told
from plumised.ledger import Account, Figures, LedgerError
from plumised.oracle.answers import Accepted, Failed, Refusal, Refused, Sight, Unknown, Unsent
from plumised.oracle.clocks import ClockComparison
from plumised.oracle.correspondent import Correspondent
from plumised.oracle.dialects import DialectChoice
from plumised.oracle.formats import Dialect
from plumised.oracle.planning import (
    Fate,
    Forget,
    Hold,
    HoldReason,
    Look,
    Policy,
    Repeat,
    Send,
    Settle,
    Skip,
    asked_pause_s,
    backoff_s,
    credible,
    fate,
    fate_of_replayed,
    interval_s,
    plan,
)
from plumised.oracle.problems import Trouble, clock_is_off, of_failure, of_hold, of_sight
from plumised.oracle.shares import Limits, lowered, unreported
from plumised.oracle.snapshot import ReporterProblem, ReporterSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.ledger import LedgerThread, ReportBooks, ReportInFlight
    from plumised.oracle.client import OracleClient
    from plumised.oracle.signing import Signer

log = logging.getLogger(__name__)

_GREATEST_STEPS = 8
"""Of one turn. The longest honest one has four: look, settle, skip, send."""

_SOON_S = 1.0
"""Pause where the next attempt is expected to succeed. Signed timestamps are whole seconds, so no less."""


class Reporter:
    """Reports the ledger's committed totals, one report at a time. `run` is the loop; `turn` is one attempt."""

    def __init__(  # noqa: PLR0913 - clocks and chance are given so that tests can set them
        self,
        *,
        client: OracleClient,
        dialect: Dialect | None,
        signer: Signer,
        ledger: LedgerThread,
        policy: Policy,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        random: Callable[[], float],
        on_unregistered: Callable[[], None],
    ) -> None:
        """Set up; nothing is sent yet.

        Args:
            client: of the Oracle.
            dialect: of the reports; None finds out which one the Oracle speaks.
            signer: of the agent.
            ledger: open.
            policy: intervals and limits.
            clock: wall clock, seconds since the epoch.
            monotonic: seconds that no clock setting moves.
            random: uniform in [0, 1).
            on_unregistered: called when the Oracle says that the agent is not registered; must return at once.
        """
        self._client = client
        self._signer = signer
        self._ledger = ledger
        self._policy = policy
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._on_unregistered = on_unregistered
        self._fixed = dialect
        self._adopted: tuple[OracleClient, Dialect | None, Policy] | None = None
        self._dialect = DialectChoice(client.url, dialect, ledger)
        self._clocks = ClockComparison(clock, monotonic)
        self._correspondent = Correspondent(client, signer, ledger, self._clocks, monotonic)
        self._limits = Limits(policy.greatest_tokens, policy.greatest_requests, policy.proofs_per_report)
        self._books: ReportBooks | None = None
        # Timestamp of a report that the Oracle is certainly not at: whoever starts anew knows of none.
        self._ended: int | None = None
        self._left_out = False
        self._proofs_accepted = 0
        self._failures = 0
        self._problem: ReporterProblem | None = None
        self._next_try_at: float | None = None
        self._deadline: float | None = None
        self._closing = False
        self._wake = asyncio.Event()
        self._one_turn = asyncio.Lock()

    def snapshot(self) -> ReporterSnapshot:
        """Where reporting stands; reads memory only."""
        accepted = self._books.accepted if self._books else None
        return ReporterSnapshot(
            agent=self._signer.address,
            url=self._client.url,
            dialect=self._dialect.current,
            dialect_found=self._dialect.found,
            accepted=accepted,
            reported=accepted.covered if accepted else Figures(),
            in_flight=self._books is not None and self._books.in_flight is not None,
            clock_skew_s=self._clocks.skew_s,
            problem=self._problem,
            next_try_at=self._next_try_at,
            proofs_waiting=self._proofs_waiting(),
            proofs_accepted=self._proofs_accepted,
        )

    async def run(self) -> None:
        """Report at the interval until `final_report` is called or this is cancelled. Raises nothing else."""
        # After an outage of the Oracle or of the power, not all nodes should come at once.
        pause = self._random() * min(self._policy.interval_s, self._policy.first_backoff_s)
        while True:
            await self._rest(pause)
            if self._closing:
                return
            pause = await self.turn()

    def report_soon(self) -> None:
        """Cut the present pause short: something has changed for the better."""
        self._wake.set()

    def adopt(self, *, client: OracleClient, dialect: Dialect | None, policy: Policy) -> None:
        """Go by these from the next turn on, which comes soon. A report in flight is settled as after a restart.

        Args:
            client: of the Oracle.
            dialect: of the reports; None finds out which one the Oracle speaks.
            policy: intervals and limits.
        """
        self._adopted = (client, dialect, policy)
        self.report_soon()

    async def turn(self) -> float:
        """One attempt to get everything reported.

        Returns:
            Seconds until the next one is due.
        """
        async with self._one_turn:
            self._take_on()
            try:
                pause = await self._turn()
            except LedgerError as error:
                pause = self._failed(Trouble(error.code, error.message, error.remedy))
            self._next_try_at = self._clock() + pause
            if self._problem is not None:
                self._problem = replace(self._problem, next_try_at=self._next_try_at)
            return pause

    async def final_report(self, within_s: float) -> bool:
        """End `run`, and report what is unreported.

        Args:
            within_s: how long this may take.

        Returns:
            Whether everything is reported. What is not stays in the ledger.
        """
        self._closing = True
        self._wake.set()
        self._deadline = self._monotonic() + within_s
        try:
            async with asyncio.timeout(within_s):
                while True:
                    books = await self._ledger.report_books()
                    if not unreported(books, self._account(), self._limits):
                        return True
                    pause = await self.turn()
                    if self._problem is not None:
                        if pause > self._remaining_s():
                            return False
                        await asyncio.sleep(min(pause, _SOON_S))
        except TimeoutError:
            return False
        except LedgerError as error:
            log.warning("no final report: %s", error, extra=told(LogEvent.REPORT_FAILED, reason=error.code))
            return False

    def _take_on(self) -> None:
        """Go by what was adopted, if anything was."""
        if self._adopted is None:
            return
        (client, dialect, policy), self._adopted = self._adopted, None
        moved = client.url != self._client.url
        if moved:
            self._clocks = ClockComparison(self._clock, self._monotonic)
            self._problem, self._failures = None, 0
        if moved or dialect is not self._fixed:
            self._fixed = dialect
            self._dialect = DialectChoice(client.url, dialect, self._ledger)
        if moved or policy != self._policy:
            self._limits = Limits(policy.greatest_tokens, policy.greatest_requests, policy.proofs_per_report)
        self._client, self._policy = client, policy
        self._correspondent.write_to(client, self._clocks)

    async def _turn(self) -> float:
        await self._dialect.recall()
        sight: Sight | None = None
        for _ in range(_GREATEST_STEPS):
            books = self._books = await self._ledger.report_books()
            step = plan(
                *(books, self._account(), sight, self._clocks.now(), self._policy, self._limits),
                under_way=books.in_flight is None or books.in_flight.timestamp != self._ended,
            )
            match step:
                case Look():
                    asked = books.in_flight.account if books.in_flight else self._account()
                    sight = await self._correspondent.look(asked, self._timeout_s())
                    if trouble := of_sight(sight, self._client.url):
                        return self._failed(trouble, asked_s=sight.retry_after_s)
                case Settle():
                    await self._accept(step.report)
                    if not unreported(self._books, self._account(), self._limits):
                        self._left_out = False
                        return self._succeeded()
                case Forget() | Skip():
                    await self._note(step)
                case Hold():
                    return self._held(step)
                case Repeat():
                    return await self._send(step.report, repeated=True)
                case Send(share):
                    self._left_out = share.leaves_out(books.totals)
                    report = await self._correspondent.sign(share, self._account(), self._limits.proofs)
                    await self._ledger.start_report(report)
                    return await self._send(report, repeated=False)
        return self._failed(Trouble("internal", "reporting does not come to an end", "report this as a bug"))

    async def _note(self, step: Forget | Skip) -> None:
        if isinstance(step, Forget):
            await self._ledger.drop_report(step.report.timestamp)
        else:
            await self._ledger.skip_timestamps(step.until)

    async def _send(self, report: ReportInFlight, *, repeated: bool) -> float:
        dialect = Dialect(report.account.dialect)
        self._ended = None
        outcome = await self._correspondent.post(report, self._timeout_s())
        if not isinstance(outcome, Unknown) or not outcome.under_way:
            self._ended = report.timestamp
        if isinstance(outcome, Accepted):
            await self._accept(report)
            return self._succeeded()
        verdict = fate(outcome, dialect, repeated=repeated)
        if isinstance(outcome, Refused) and outcome.kind is Refusal.REPLAY and dialect.has_history:
            verdict = await self._inquire(report, repeated=repeated)
        if verdict is Fate.BOOKED:
            await self._accept(report)
            return self._succeeded()
        if verdict is Fate.NOT_BOOKED:
            await self._ledger.drop_report(report.timestamp)
        self._books = await self._ledger.report_books()
        trouble = self._trouble(outcome)
        asked_s = None if isinstance(outcome, Unsent) else outcome.retry_after_s
        return self._failed(trouble, await self._react(outcome, report), asked_s)

    async def _inquire(self, report: ReportInFlight, *, repeated: bool) -> Fate:
        sight = await self._correspondent.look(report.account, self._timeout_s())
        if sight.latest is None:
            return Fate.OPEN
        if credible(sight.latest, self._clocks.now()):
            await self._ledger.skip_timestamps(sight.latest)
        return fate_of_replayed(report, sight.latest, repeated=repeated)

    async def _accept(self, report: ReportInFlight) -> None:
        first = self._books is None or self._books.accepted is None
        accepted = await self._ledger.accept_report(report.timestamp, self._clock())
        self._books = await self._ledger.report_books()
        self._proofs_accepted += len(report.proofs)
        log.log(
            logging.INFO if first else logging.DEBUG,
            "the Oracle at %s has booked %d tokens of %d requests in all (report of %d)",
            accepted.account.url,
            accepted.covered.tokens,
            accepted.covered.requests,
            accepted.timestamp,
            extra=told(LogEvent.REPORT_ACCEPTED, tokens=accepted.covered.tokens, requests=accepted.covered.requests),
        )
        if report.account.url == self._client.url:
            await self._dialect.confirm(Dialect(report.account.dialect))

    async def _react(self, failed: Failed, report: ReportInFlight) -> float | None:
        """Draw the conclusions of a failure.

        Returns:
            Seconds until the next attempt where they are other than usual.
        """
        if not isinstance(failed, Refused):
            return None
        pause: float | None = None
        match failed.kind:
            case Refusal.UNREGISTERED:
                self._on_unregistered()
            case Refusal.TOO_LARGE if report.proofs:
                self._limits = replace(self._limits, proofs=len(report.proofs) // 2)
                pause = _SOON_S
            case Refusal.FORMAT:
                log.error("the Oracle refuses a report of ours for its form (%s): %.2000s", failed.message, report.body)
                await self._ledger.refuse_proofs(report.proofs)
                pause = _SOON_S if report.proofs else self._policy.last_backoff_s
            case Refusal.CAP:
                self._limits = lowered(self._limits, report, self._books.accepted if self._books else None)
                pause = _SOON_S if self._failures == 0 else None
            case Refusal.NOT_FOUND:
                pause = _SOON_S if self._dialect.turn_away() else None
            case Refusal.REPLAY:
                pause = _SOON_S if self._failures == 0 else None
            case _:
                pass
        return pause

    def _trouble(self, failed: Failed) -> Trouble:
        skew_s = self._clocks.skew_s or 0.0
        doubtful = isinstance(failed, Refused) and failed.kind is Refusal.SIGNATURE
        if doubtful and abs(skew_s) > self._policy.greatest_ahead_s:
            return clock_is_off(skew_s)
        return of_failure(failed, self._client.url, self._signer.address, self._dialect.current)

    def _succeeded(self) -> float:
        if self._problem is not None:
            log.info("reports are accepted again", extra=told(LogEvent.REPORTS_RECOVERED))
        self._problem = None
        self._failures = 0
        pause = interval_s(self._policy, self._random())
        more = self._books is not None and self._books.proofs_waiting >= self._limits.proofs > 0
        backlog = more and self._dialect.current.carries_proofs
        return min(_SOON_S, pause) if self._left_out or backlog else pause

    def _proofs_waiting(self) -> int:
        if self._books is None:
            return 0
        return self._books.proofs_waiting + (len(self._books.in_flight.proofs) if self._books.in_flight else 0)

    def _held(self, hold: Hold) -> float:
        pause = None if hold.seconds is None else min(hold.seconds, self._policy.last_backoff_s)
        # The failure that left the report unsettled says more than that it is.
        known = self._problem.trouble if self._problem and hold.reason is HoldReason.UNSETTLED else None
        return self._failed(known or of_hold(hold), pause)

    def _failed(self, trouble: Trouble, pause: float | None = None, asked_s: float | None = None) -> float:
        self._failures += 1
        same = self._problem is not None and self._problem.trouble.code == trouble.code
        if not same:
            failed = told(LogEvent.REPORT_FAILED, reason=trouble.code)
            log.warning("%s (%s). %s", trouble.message, trouble.code, trouble.remedy, extra=failed)
        since = self._problem.since if same and self._problem is not None else self._clock()
        self._problem = ReporterProblem(trouble, since, self._failures, since)
        usual_s = backoff_s(self._failures, self._policy, self._random()) if pause is None else pause
        return asked_pause_s(usual_s, asked_s, self._policy, self._random())

    def _account(self) -> Account:
        return Account(agent=self._signer.address, url=self._client.url, dialect=self._dialect.current.value)

    def _timeout_s(self) -> float | None:
        return None if self._deadline is None else min(self._client.timeout_s, max(0.1, self._remaining_s()))

    def _remaining_s(self) -> float:
        return 0.0 if self._deadline is None else self._deadline - self._monotonic()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        if not self._closing:
            self._wake.clear()
