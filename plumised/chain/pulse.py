"""What became of heartbeats at precompile 0x22, and when the next is due. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plumised.chain import calldata
from plumised.chain.addresses import HEARTBEAT, HEARTBEAT_GAS
from plumised.chain.orders import Confirmed, Failed, Order, Purpose, Reverted
from plumised.chain.problems import ChainProblem

if TYPE_CHECKING:
    from plumised.chain.orders import Outcome

JITTER = 0.1
"""Part of the interval by which each heartbeat is early or late at most."""

RETRY_PART = 0.25
"""Part of the interval after which a failed heartbeat is tried again: the chain calls an agent dead after 300 s."""

ORDER = Order(Purpose.HEARTBEAT, HEARTBEAT, calldata.heartbeat(), HEARTBEAT_GAS)
"""A heartbeat of the sender."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What became of the heartbeats of this process.

    Attributes:
        sent: handed to a node, whatever became of them.
        confirmed: mined with success.
        missed: due, but not confirmed.
        last_at: when the last confirmation became known, seconds since the epoch, or None.
        last_hash: its transaction, or None.
        last_missed: why the last one that was due is missing, or None where it is not.
        missed_by: how many were missed for which reason code, in the order of their first time.
    """

    sent: int = 0
    confirmed: int = 0
    missed: int = 0
    last_at: float | None = None
    last_hash: str | None = None
    last_missed: ChainProblem | None = None
    missed_by: tuple[tuple[str, int], ...] = ()


def after(pulse: Pulse, outcome: Outcome, now: float) -> Pulse:
    """Return the pulse with one more outcome. `now` is the wall clock, seconds since the epoch."""
    if outcome.hash is not None:
        pulse = replace(pulse, sent=pulse.sent + 1)
    if isinstance(outcome, Confirmed):
        return replace(pulse, confirmed=pulse.confirmed + 1, last_at=now, last_hash=outcome.hash, last_missed=None)
    if isinstance(outcome, Failed):
        return missed(pulse, outcome.problem)
    problem = ChainProblem(
        "heartbeat-reverted",
        f"The heartbeat {outcome.hash} was mined and failed, as those of unregistered agents do",
        "Nothing to do: the registration is checked.",
    )
    return missed(pulse, problem)


def missed(pulse: Pulse, problem: ChainProblem) -> Pulse:
    """Return the pulse with one more missed heartbeat."""
    counts = dict(pulse.missed_by)
    counts[problem.code] = counts.get(problem.code, 0) + 1
    return replace(pulse, missed=pulse.missed + 1, last_missed=problem, missed_by=tuple(counts.items()))


def next_in_s(interval_s: float, chance: float, *, failed: bool) -> float:
    """Return the seconds until the next heartbeat.

    Args:
        interval_s: between heartbeats.
        chance: from 0 to 1.
        failed: whether the last one was missed, so that the next is tried sooner.
    """
    return interval_s * (RETRY_PART if failed else 1.0) * (1 + JITTER * (2 * chance - 1))


def asks_for_registration(outcome: Outcome) -> bool:
    """Whether a heartbeat failed as that of an unregistered agent does."""
    if isinstance(outcome, Reverted):
        return True
    return isinstance(outcome, Failed) and outcome.problem.code == "transaction-would-fail"


PENDING = ChainProblem(
    "heartbeat-pending", "The previous heartbeat is not mined yet", "Nothing to do: it is watched and raised."
)
UNREGISTERED = ChainProblem(
    "agent-unregistered", "The agent is not registered, or the chain does not say so", "See the registration's problem."
)
