"""How much of the totals a report carries. Pure.

The Oracle's counters are cumulative: it books the difference to the last value that it took, and takes a lower value
for a restart that it books in full. From that follows how a count begins and how it stays below the Oracle's cap:

- A count that this ledger has not begun (another agent, Oracle or dialect; a ledger that was lost) begins with a report
  of zero. Whatever the Oracle held before, the next value is then booked as it is: neither too much nor too little.
- Values stay at or below a limit. What exceeds it is left for later. Once the limit itself is accepted, the base moves
  to what was reported so far, and the next value is kept below the limit, so that it is booked in full.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plumised.ledger import Figures
from plumised.oracle.formats import Dialect

if TYPE_CHECKING:
    from plumised.ledger import AcceptedReport, Account, ReportBooks, ReportInFlight, Totals


@dataclass(frozen=True, slots=True)
class Share:
    """The part of the totals that the next report carries.

    Attributes:
        base: totals that its figures count from.
        covered: totals that are reported once it is accepted.
        average_latency_ms: of the requests since the base.
    """

    base: Figures
    covered: Figures
    average_latency_ms: float

    @property
    def tokens(self) -> int:
        """The value to report."""
        return self.covered.tokens - self.base.tokens

    @property
    def requests(self) -> int:
        """The request count to report."""
        return self.covered.requests - self.base.requests

    def leaves_out(self, totals: Totals) -> bool:
        """Whether a further report is needed for all of `totals`."""
        return (self.covered.tokens, self.covered.requests) != (totals.tokens, totals.requests)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a report may hold.

    Attributes:
        tokens: of the value.
        requests: of the request count.
        proofs: how many.
    """

    tokens: int
    requests: int
    proofs: int


def lowered(limits: Limits, report: ReportInFlight, accepted: AcceptedReport | None) -> Limits:
    """The limits after a report was refused because its value is above the Oracle's cap."""
    booked = 0
    if accepted is not None and accepted.account == report.account:
        booked = accepted.covered.tokens - accepted.base.tokens
    refused = report.covered.tokens - report.base.tokens
    return replace(limits, tokens=booked if booked > 0 else max(1, refused // 2))


def next_share(books: ReportBooks, account: Account, limits: Limits) -> Share:
    """What the next report carries. Never more than the committed totals."""
    totals = Figures.of(books.totals)
    accepted = books.accepted
    if accepted is None or accepted.account != account:
        begun = accepted.covered if accepted else Figures()
        return Share(begun, begun, 0.0)
    base, done = accepted.base, accepted.covered
    reported = _minus(done, base)
    value = _minus(totals, base)
    if value.tokens > limits.tokens and reported.tokens >= limits.tokens:
        # Both values must drop, each by itself, or the Oracle books a difference instead of all of it.
        rest = _minus(totals, done)
        base, value = (
            done,
            Figures(
                tokens=min(rest.tokens, reported.tokens - 1),
                requests=min(rest.requests, max(0, reported.requests - 1)),
                service_us=rest.service_us,
            ),
        )
    covered = Figures(
        tokens=base.tokens + min(value.tokens, limits.tokens),
        requests=base.requests + min(value.requests, limits.requests),
        service_us=base.service_us + value.service_us,
    )
    return Share(base, covered, average_latency_ms(_minus(totals, base)))


def average_latency_ms(figures: Figures) -> float:
    """Service time per request, to the microsecond; 0.0 without requests."""
    return round(figures.service_us / figures.requests / 1000, 3) if figures.requests > 0 else 0.0


def unreported(books: ReportBooks, account: Account, limits: Limits) -> bool:
    """Whether there is work or a proof of it that the Oracle is not known to have taken."""
    if books.proofs_waiting and limits.proofs and Dialect(account.dialect).carries_proofs:
        return True
    totals = Figures.of(books.totals)
    accepted = books.accepted
    done = accepted.covered if accepted else Figures()
    if (totals.tokens, totals.requests) != (done.tokens, done.requests):
        return True
    return books.in_flight is not None and books.in_flight.account == account


def _minus(one: Figures, other: Figures) -> Figures:
    return Figures(one.tokens - other.tokens, one.requests - other.requests, one.service_us - other.service_us)
