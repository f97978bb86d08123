"""What contracts say in the events of a receipt. Pure; the one event that matters is the RewardPool's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eth_utils.crypto import keccak

from plumised.chain import calldata
from plumised.chain.orders import Purpose

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plumised.chain.answers import Event
    from plumised.ledger.records import StoredTransaction

REWARD_CLAIMED: Final = bytes(keccak(text="RewardClaimed(address,uint256)"))
"""First topic of the event: the agent is its second topic, or the first word of its data where it is not indexed."""


def claimed_wei(events: Iterable[Event], pool: str, agent: str) -> int | None:
    """Return how much the RewardPool at `pool` paid to `agent`, or None where no event says so."""
    found = [
        amount
        for event in events
        if event.address == pool.lower() and (amount := _amount(event, calldata.address_word(agent))) is not None
    ]
    return sum(found) if found else None


def what_it_did(transaction: StoredTransaction, events: Iterable[Event]) -> str:
    """Return what a mined transaction's events tell, for people; empty where there is nothing to tell."""
    if transaction.purpose != Purpose.CLAIM:
        return ""
    wei = claimed_wei(events, transaction.to, transaction.sender)
    return "no RewardClaimed event" if wei is None else f"claimed {wei} wei"


def _amount(event: Event, agent: bytes) -> int | None:
    """Return the amount of a RewardClaimed event for this agent."""
    if not event.topics or event.topics[0] != REWARD_CLAIMED:
        return None
    words = (*event.topics[1:], *_words(event.data))
    return int.from_bytes(words[1], "big") if len(words) == 2 and words[0] == agent else None  # noqa: PLR2004 # its two


def _words(data: bytes) -> tuple[bytes, ...]:
    return tuple(data[start : start + calldata.WORD] for start in range(0, len(data), calldata.WORD))
