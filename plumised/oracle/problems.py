"""What is wrong with reporting, in words for the operator. Pure; docs/reasons.md lists the codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from plumised.oracle.answers import Failed, Refusal, Refused, Sight, Unknown, Unsent
from plumised.oracle.planning import Hold, HoldReason


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        code: stable kebab-case identifier.
        message: what happened.
        remedy: what the operator can do.
    """

    code: str
    message: str
    remedy: str


_WAIT = "nothing to do: the work is kept in the ledger and reported later"
_BUG = "report this as a bug of plumised, with this message; counting goes on"


def unreachable(url: str, cause: str) -> Trouble:
    """No server answers."""
    return Trouble(
        "oracle-unreachable", f"the Oracle at {url} cannot be reached: {cause}", f"check [oracle] url; {_WAIT}"
    )


def of_sight(sight: Sight, url: str) -> Trouble | None:
    """Why nothing may be sent after an inquiry; None where something may."""
    if not sight.answered:
        return unreachable(url, sight.trouble)
    if sight.retry_after_s is None:
        return None
    code, text, remedy = _REFUSALS[Refusal.BUSY]
    return Trouble(code, text.format(url=url, message=sight.trouble or "it does not say why"), remedy)


def clock_is_off(skew_s: float) -> Trouble:
    """The Oracle would refuse, or has refused, every timestamp of this clock."""
    side = "ahead of" if skew_s > 0 else "behind"
    return Trouble(
        HoldReason.CLOCK_SKEW,
        f"the clock of this machine is {abs(skew_s):.0f} s {side} the Oracle's, which takes reports within 60 s",
        "set the clock, and keep it right with systemd-timesyncd or chrony",
    )


def of_hold(hold: Hold) -> Trouble:
    """Why nothing is sent."""
    match hold.reason:
        case HoldReason.CLOCK_SKEW:
            return clock_is_off(hold.amount_s)
        case HoldReason.CLOCK_BEHIND:
            return Trouble(
                hold.reason,
                f"the last report was signed with a time {abs(hold.amount_s):.0f} s ahead of the clock, and every"
                " report must be later than the one before",
                f"make sure that the clock is right; {_WAIT}",
            )
        case HoldReason.UNSETTLED:
            return Trouble(
                hold.reason,
                "the Oracle has not yet shown whether it booked the last report",
                f"nothing to do: it is asked again; {_WAIT.removeprefix('nothing to do: ')}",
            )
        case _:
            assert_never(hold.reason)


def of_failure(failed: Failed, url: str, agent: str, dialect: str) -> Trouble:
    """Why the last report did not count."""
    match failed:
        case Unsent(cause):
            return unreachable(url, cause)
        case Unknown(cause):
            return Trouble(
                "oracle-unknown-outcome",
                f"whether the Oracle at {url} booked the last report is not known: {cause}",
                f"nothing to do: it is asked; {_WAIT.removeprefix('nothing to do: ')}",
            )
        case Refused(kind, message):
            code, text, remedy = _REFUSALS[kind]
            return Trouble(code, text.format(url=url, agent=agent, dialect=dialect, message=message), remedy)


_REFUSALS: dict[Refusal, tuple[str, str, str]] = {
    Refusal.FORMAT: ("oracle-format", "the Oracle does not know the form of the report: {message}", _BUG),
    Refusal.SIGNATURE: (
        "oracle-signature",
        "the Oracle does not accept the signature of {agent}: {message}",
        "check that the wallet is the one that is registered, and that the clock is right",
    ),
    Refusal.REPLAY: (
        "oracle-replay",
        "the Oracle has already accepted a later report of {agent}",
        "make sure that no second plumised uses this wallet; the inference gateway may report for it too",
    ),
    Refusal.UNREGISTERED: (
        "oracle-unregistered",
        "the Oracle says that {agent} is not registered on the chain",
        "nothing to do while registration is under way; else see the chain part of `plumised status`",
    ),
    Refusal.CAP: ("oracle-cap", "the Oracle's cap on the token count was reached: {message}", _WAIT),
    Refusal.TOO_LARGE: ("oracle-too-large", "the report is too large for the Oracle: {message}", _WAIT),
    Refusal.NOT_FOUND: (
        "oracle-not-found",
        "{url} does not take reports in the dialect {dialect}: {message}",
        'check [oracle] url, and set [oracle] dialect = "auto"',
    ),
    Refusal.REDIRECT: (
        "oracle-redirect",
        "{url} sends reports on to {message}",
        "set [oracle] url to where the Oracle is; signed reports are not sent on",
    ),
    Refusal.BUSY: (
        "oracle-busy",
        "the Oracle at {url} wants to be left alone for a while: {message}",
        f"{_WAIT}; where it lasts, set a longer [oracle] interval_s",
    ),
    Refusal.OTHER: ("oracle-refused", "the Oracle refuses the report: {message}", _WAIT),
}
