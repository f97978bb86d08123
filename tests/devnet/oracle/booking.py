"""How cumulative counters become a balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.devnet.oracle.refusal import internal, replay, too_many_tokens

if TYPE_CHECKING:
    from tests.devnet.oracle.report import Report

MAX_TOKENS = 1_000_000_000
"""The cap on the cumulative value of one report."""

MAX_COLUMN = 2**31 - 1
"""What the database's integer columns hold: request count and uptime."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is held of one agent; see views.AgentView for the fields."""

    agent: str
    booked_tokens: int = 0
    booked_requests: int = 0
    last_tokens: int = 0
    last_requests: int = 0
    last_timestamp: int = 0
    accepted: int = 0
    restarts: int = 0


def check_sequence(account: Account, report: Report) -> None:
    """Raise Refused if the report is not younger than the last accepted one."""
    if report.timestamp <= account.last_timestamp:
        raise replay()


def check_bounds(report: Report) -> None:
    """Raise Refused if a number is above what the Oracle takes or its database holds."""
    if report.tokens > MAX_TOKENS:
        raise too_many_tokens()
    if max(report.requests, report.uptime_s) > MAX_COLUMN:
        raise internal()


def difference(cumulative: int, last: int) -> int:
    """What a counter adds: a value below the last one is a counter that began anew, and counts in full."""
    return cumulative - last if cumulative >= last else cumulative


def book(seen: Account, current: Account, report: Report) -> Account:
    """The account after a report.

    Args:
        seen: the account as it was when the report was checked; its sums are what is added to.
        current: the account as it is now; its last values are what the differences are taken from.
        report: checked.

    `seen` and `current` differ only if another report of the agent was booked in between. Then its difference is lost,
    as in the Oracle service, which does not lock an account either.
    """
    return Account(
        agent=report.agent,
        booked_tokens=seen.booked_tokens + difference(report.tokens, current.last_tokens),
        booked_requests=seen.booked_requests + difference(report.requests, current.last_requests),
        last_tokens=report.tokens,
        last_requests=report.requests,
        last_timestamp=report.timestamp,
        accepted=current.accepted + 1,
        restarts=current.restarts + (report.tokens < current.last_tokens),
    )
