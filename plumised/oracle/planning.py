"""What to do next about reports. Pure: the reporter carries it out.

One report is in flight at a time. Its fate is known from the answer, or from the Oracle's history, or from its age: the
Oracle refuses timestamps that are 61 s old. Of two reports at once the Oracle loses counts, and two copies are two
reports, so nothing is sent while one may be under way. Nothing is signed while the clock is not known to be right,
because a timestamp from the future would block every later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

from plumised.oracle.answers import Refusal, Refused, Unknown, Unsent
from plumised.oracle.formats import Dialect
from plumised.oracle.shares import Limits, Share, next_share

if TYPE_CHECKING:
    from plumised.ledger import Account, ReportBooks, ReportInFlight
    from plumised.oracle.answers import Failed, Sight
    from plumised.oracle.clocks import Clocks


@dataclass(frozen=True, slots=True)
class Policy:
    """The numbers that decisions depend on.

    Attributes:
        interval_s: between two reports.
        jitter: part of the interval by which a report may come earlier or later.
        first_backoff_s: pause after the first failure; doubles with each further one.
        last_backoff_s: the longest pause.
        greatest_wish_s: for how long at most the Oracle is left alone where it asks for that.
        resend_from_s: age of a report below which it is not repeated, although the Oracle has ended its connection:
            what has ended it may have been in between.
        resend_until_s: age from which the Oracle refuses the timestamp, less a margin.
        settled_s: age from which a report that was not booked certainly never will be: the 61 s, and 30 s for the
            Oracle to book what it has begun to check.
        look_every_s: pause between inquiries while a report may be under way.
        greatest_ahead_s: how far a timestamp may be ahead of the clock, and the clock off the Oracle's. The Oracle's
            limit is 60.
        greatest_tokens: limit of the value that is reported.
        greatest_requests: limit of the request count that is reported.
        proofs_per_report: how many proofs one report carries at most.
    """

    interval_s: float = 60.0
    jitter: float = 0.1
    first_backoff_s: float = 5.0
    last_backoff_s: float = 300.0
    greatest_wish_s: float = 900.0
    resend_from_s: float = 30.0
    resend_until_s: float = 55.0
    settled_s: float = 95.0
    look_every_s: float = 15.0
    greatest_ahead_s: float = 50.0
    greatest_tokens: int = 900_000_000
    greatest_requests: int = 2_000_000_000
    proofs_per_report: int = 300


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the Oracle for the last accepted report and its time."""


@dataclass(frozen=True, slots=True)
class Settle:
    """The report in flight was booked."""

    report: ReportInFlight


@dataclass(frozen=True, slots=True)
class Forget:
    """The report in flight was not booked and never will be."""

    report: ReportInFlight


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the report in flight again, unchanged."""

    report: ReportInFlight


@dataclass(frozen=True, slots=True)
class Skip:
    """The Oracle has seen later timestamps than this ledger gave out: go on after them."""

    until: int


@dataclass(frozen=True, slots=True)
class Send:
    """Sign and send a report."""

    share: Share


class HoldReason(StrEnum):
    """Why nothing may be sent."""

    CLOCK_SKEW = "oracle-clock-skew"
    CLOCK_BEHIND = "oracle-clock-behind"
    UNSETTLED = "oracle-unsettled"


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing may be sent for a while.

    Attributes:
        reason: why.
        seconds: for how long; None where nobody knows.
        amount_s: of the clock's error, where it is the clock's; positive where it is ahead.
    """

    reason: HoldReason
    seconds: float | None = None
    amount_s: float = 0.0


Step = Look | Settle | Forget | Repeat | Skip | Send | Hold

_GREATEST_SKIP_S = 120
"""The Oracle takes no timestamp that is further ahead of its clock than 60 s, so one beyond this is nonsense."""


def plan(
    books: ReportBooks,
    account: Account,
    sight: Sight | None,
    clocks: Clocks,
    policy: Policy,
    limits: Limits,
    *,
    under_way: bool,
) -> Step:
    """The next step towards everything being reported.

    Args:
        books: from the ledger.
        account: where to report to.
        sight: what an inquiry of this turn has shown, or None.
        clocks: the time.
        policy: the rules' numbers.
        limits: of one report.
        under_way: whether the Oracle may be at the report in flight still, for nothing has said that it has ended.
    """
    trusted = clocks.proven and abs(clocks.skew_s) <= policy.greatest_ahead_s
    if sight is None and (books.in_flight is not None or not trusted):
        return Look()
    if sight is not None and books.in_flight is not None:
        age = clocks.oracle_now(sight.server_time) - books.in_flight.timestamp
        ended = not under_way and books.in_flight.account == account
        return _settle(books.in_flight, sight, age, policy, may_be_repeated=ended)
    if abs(clocks.skew_s) > policy.greatest_ahead_s:
        return Hold(HoldReason.CLOCK_SKEW, amount_s=clocks.skew_s)
    latest = sight.latest if sight is not None else None
    if latest is not None and latest > books.last_signed and credible(latest, clocks):
        return Skip(latest)
    ahead = books.last_signed + 1 - int(clocks.wall)
    if ahead > policy.greatest_ahead_s:
        return Hold(HoldReason.CLOCK_BEHIND, seconds=ahead - policy.greatest_ahead_s, amount_s=-float(ahead))
    return Send(next_share(books, account, limits))


def credible(latest: int, clocks: Clocks) -> bool:
    """Whether an Oracle can have accepted a report of that timestamp."""
    return latest < clocks.wall + _GREATEST_SKIP_S


def _settle(report: ReportInFlight, sight: Sight, age: float, policy: Policy, *, may_be_repeated: bool) -> Step:
    if sight.latest is not None and sight.latest >= report.timestamp:
        return Settle(report)
    has_history = Dialect(report.account.dialect).has_history
    unsaid = has_history and sight.latest is None
    if age >= policy.settled_s:
        # Counters may be reported anew without harm; proofs would be inserted twice.
        return Hold(HoldReason.UNSETTLED) if unsaid and report.proofs else Forget(report)
    if may_be_repeated and not unsaid and age < policy.resend_until_s:
        early = policy.resend_from_s - age
        return Hold(HoldReason.UNSETTLED, seconds=early) if early > 0 else Repeat(report)
    left = policy.settled_s - age
    return Hold(HoldReason.UNSETTLED, seconds=min(left, policy.look_every_s) if has_history else left)


class Fate(Enum):
    """What an answer says of the report in flight."""

    BOOKED = auto()
    NOT_BOOKED = auto()
    OPEN = auto()


_WHATEVER_WAS_BEFORE = frozenset({Refusal.FORMAT, Refusal.TOO_LARGE, Refusal.CAP, Refusal.NOT_FOUND, Refusal.REDIRECT})
"""Refusals that an identical report would have met before as well."""


def fate(failed: Failed, dialect: Dialect, *, repeated: bool) -> Fate:
    """What a failure says.

    Args:
        failed: outcome of the last attempt.
        dialect: of the report.
        repeated: whether an identical report was sent before, with unknown outcome.
    """
    match failed:
        case Unknown():
            return Fate.OPEN
        case Refused(kind=Refusal.REPLAY) if dialect.has_history:
            return Fate.OPEN
        case Refused(kind=Refusal.REPLAY):
            return Fate.BOOKED if repeated else Fate.NOT_BOOKED
        case Refused(kind=kind) if kind in _WHATEVER_WAS_BEFORE:
            return Fate.NOT_BOOKED
        case Refused() | Unsent():
            return Fate.OPEN if repeated else Fate.NOT_BOOKED


def fate_of_replayed(report: ReportInFlight, latest: int, *, repeated: bool) -> Fate:
    """What the history says of a report that was refused as a replay.

    A later timestamp than ours is another program's, which reports for the same agent: ours was too late, unless it
    had been sent before.
    """
    if latest == report.timestamp or (repeated and latest > report.timestamp):
        return Fate.BOOKED
    return Fate.NOT_BOOKED


def backoff_s(failures: int, policy: Policy, random: float) -> float:
    """Pause after so many failures in a row, at least one. `random` is uniform in [0, 1)."""
    ceiling = min(policy.last_backoff_s, policy.first_backoff_s * 2.0 ** min(failures - 1, 30))
    return ceiling * (0.5 + 0.5 * random)


def asked_pause_s(usual_s: float, asked_s: float | None, policy: Policy, random: float) -> float:
    """The pause where the Oracle has said how long it wants to be left alone: never shorter than without its wish.

    Args:
        usual_s: pause without a wish.
        asked_s: its wish, or None.
        policy: bounds the wish.
        random: uniform in [0, 1), so that not all nodes come back at one moment.
    """
    if asked_s is None:
        return usual_s
    return max(usual_s, min(asked_s, policy.greatest_wish_s) * (1 + policy.jitter * random))


def interval_s(policy: Policy, random: float) -> float:
    """Pause after an accepted report. `random` is uniform in [0, 1)."""
    return policy.interval_s * (1 + policy.jitter * (2 * random - 1))
