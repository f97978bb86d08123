"""What to do about the transaction in flight. Pure: what is known and what the chain shows in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumised.chain.answers import Receipt


@dataclass(frozen=True, slots=True)
class FlightPolicy:
    """Times and bounds.

    Attributes:
        replace_after_s: without a receipt after the last attempt, before it is replaced by a dearer one.
        resend_after_s: between two hand-overs of the same bytes to a node that does not have them.
        settle_s: after the first receipt, when a transaction counts as settled even without further blocks.
        doubt_s: how long a contradiction must last before it is believed; endpoints may lag behind each other.
        most_attempts: signed forms of one transaction, the first included.
        poll_s: between two looks.
        slow_poll_s: between two looks at a transaction that was given up.
    """

    replace_after_s: float = 45.0
    resend_after_s: float = 15.0
    settle_s: float = 6.0
    doubt_s: float = 15.0
    most_attempts: int = 6
    poll_s: float = 1.5
    slow_poll_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Flight:
    """A transaction on its way, as far as decisions need it. Times are monotonic seconds.

    Attributes:
        nonce: of the agent.
        depth: blocks on top of its own that make it settled.
        attempts: signed forms so far.
        attempted_at: when the last form was signed, or taken up after a restart.
        sent_at: when bytes were last handed over.
        seen_at: when a receipt was first seen, or None.
        doubt_since: since when the chain's answers speak against it, or None.
        exhausted: whether no dearer form was possible when one was due: the cap or the balance was reached.
        given_up: whether it was reported as given up; it is still watched, for its nonce stands in the way.
    """

    nonce: int
    depth: int
    attempts: int
    attempted_at: float
    sent_at: float
    seen_at: float | None = None
    doubt_since: float | None = None
    exhausted: bool = False
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What the chain showed at one look.

    Attributes:
        now: monotonic seconds.
        mined_nonce: the agent's next nonce as of the latest block, read before the receipts.
        pending_nonce: the agent's next nonce after what waits in the endpoint's pool.
        known: whether the endpoint has any of the attempts.
        receipt: of the attempt that was mined, or None.
        head: number of the latest block.
    """

    now: float
    mined_nonce: int
    pending_nonce: int
    known: bool
    receipt: Receipt | None
    head: int


@dataclass(frozen=True, slots=True)
class Settle:
    """It is mined and deep enough."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Supersede:
    """Another transaction took its nonce."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """No node has it and its nonce is free or out of line: forget it."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Hand the last attempt's bytes over again."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Sign a dearer form with the same nonce."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Report it as given up, and go on watching it."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again later."""


Decision = Settle | Supersede | Abandon | Resend | Replace | GiveUp | Wait


def decide(flight: Flight, view: View, policy: FlightPolicy) -> tuple[Flight, Decision]:
    """Return what to do, and the flight with what the look taught.

    A receipt goes before everything; then contradictions, once they lasted; then the pool; then the time.
    """
    if view.receipt is not None:
        return _mined(flight, view, view.receipt, policy)
    flight = replace(flight, seen_at=None)
    taken = view.mined_nonce > flight.nonce
    if taken or (not view.known and view.pending_nonce < flight.nonce):
        since = flight.doubt_since if flight.doubt_since is not None else view.now
        flight = replace(flight, doubt_since=since)
        if view.now - since < policy.doubt_s:
            return flight, Wait()
        return flight, Supersede() if taken else Abandon()
    return _unmined(replace(flight, doubt_since=None), view, policy)


def _unmined(flight: Flight, view: View, policy: FlightPolicy) -> tuple[Flight, Decision]:
    """Its nonce is free: hand it over again, pay more, wait, or give it up."""
    foreign = not view.known and view.pending_nonce > flight.nonce
    overdue = view.now - flight.attempted_at >= policy.replace_after_s
    spent = foreign or flight.attempts >= policy.most_attempts
    if flight.given_up:
        return _given_up(flight, view, overdue=overdue, spent=spent)
    if overdue:
        if flight.exhausted or spent:
            # Fees may fall below the cap again, and then a dearer form frees the nonce.
            return replace(flight, given_up=True, exhausted=False, attempted_at=view.now), GiveUp()
        return flight, Replace()
    # Bytes that no node has can only be handed over again; a dearer form replaces them when they are overdue.
    absent = not view.known and not foreign and not flight.exhausted
    if absent and view.now - flight.sent_at >= policy.resend_after_s:
        return flight, Resend()
    return flight, Wait()


def _given_up(flight: Flight, view: View, *, overdue: bool, spent: bool) -> tuple[Flight, Decision]:
    """It was reported: forget it where it cannot be mined any more, and raise it when that has become possible."""
    if not view.known or view.pending_nonce < flight.nonce:
        # Behind a gap it waits for a transaction that this node will never send: its nonce was a lie.
        return flight, Abandon()
    if not overdue or spent:
        return flight, Wait()
    if flight.exhausted:
        return replace(flight, exhausted=False, attempted_at=view.now), Wait()
    return flight, Replace()


def _mined(flight: Flight, view: View, receipt: Receipt, policy: FlightPolicy) -> tuple[Flight, Decision]:
    seen_at = flight.seen_at if flight.seen_at is not None else view.now
    flight = replace(flight, seen_at=seen_at, doubt_since=None)
    if view.head - receipt.block_number >= flight.depth or view.now - seen_at >= policy.settle_s:
        return flight, Settle(receipt)
    return flight, Wait()
