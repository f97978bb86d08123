"""Where reporting stands, for status and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumised.ledger import AcceptedReport, Figures
    from plumised.oracle.formats import Dialect
    from plumised.oracle.problems import Trouble


@dataclass(frozen=True, slots=True)
class ReporterProblem:
    """A trouble that lasts.

    Attributes:
        trouble: what is wrong.
        since: wall clock when it began, seconds since the epoch.
        failures: attempts in a row that failed, whatever the trouble.
        next_try_at: wall clock of the next attempt, seconds since the epoch.
    """

    trouble: Trouble
    since: float
    failures: int
    next_try_at: float


@dataclass(frozen=True, slots=True)
class ReporterSnapshot:
    """Where reporting stands.

    Attributes:
        agent: for whom.
        url: of the Oracle.
        dialect: in use, or to be tried next.
        dialect_found: whether the Oracle has accepted a report in it.
        accepted: the last accepted report, or None.
        reported: totals that the Oracle has booked; zero before the first acceptance.
        in_flight: whether a report's fate is open.
        clock_skew_s: how far this clock is ahead of the Oracle's, or None where that is not known.
        problem: what is wrong, or None.
        next_try_at: wall clock of the next report, seconds since the epoch; None before the first turn has ended.
        proofs_waiting: proofs that the Oracle is not known to have taken, as of the last turn.
        proofs_accepted: proofs that it took since this reporter was made.
    """

    agent: str
    url: str
    dialect: Dialect
    dialect_found: bool
    accepted: AcceptedReport | None
    reported: Figures
    in_flight: bool
    clock_skew_s: float | None
    problem: ReporterProblem | None
    next_try_at: float | None
    proofs_waiting: int = 0
    proofs_accepted: int = 0
