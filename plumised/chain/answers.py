"""What endpoints answer, checked before anybody relies on it. Formats: https://ethereum.github.io/execution-apis/."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


class MalformedAnswerError(ValueError):
    """An answer is not of the form that its call has. The text says what came for what."""


@dataclass(frozen=True, slots=True)
class Block:
    """The head of a block.

    Attributes:
        number: height.
        timestamp: seconds since the epoch, as its producer says.
        base_fee: wei per gas, or None where the chain has no EIP-1559.
    """

    number: int
    timestamp: int
    base_fee: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """A contract's event in a receipt.

    Attributes:
        address: of the contract, in lower case.
        topics: words; the first one names the event.
        data: the rest of it.
    """

    address: str
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a mined transaction.

    Attributes:
        hash: of the transaction.
        block_number: where it is.
        succeeded: status 1.
        gas_used: of it alone.
        gas_price: wei per gas that was paid.
        events: in their order.
    """

    hash: str
    block_number: int
    succeeded: bool
    gas_used: int
    gas_price: int
    events: tuple[Event, ...] = ()


def quantity(value: object, what: str) -> int:
    """Return a JSON-RPC quantity as a number. MalformedAnswerError where it is none."""
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return int(value, 16)
    raise _bad(what, "a quantity", value)


def data(value: object, what: str) -> bytes:
    """Return JSON-RPC data as bytes. MalformedAnswerError where it is none."""
    if isinstance(value, str) and _DATA.fullmatch(value):
        return bytes.fromhex(value[2:])
    raise _bad(what, "data", value)


def truth(value: object, what: str) -> bool:
    """Return a JSON truth value. MalformedAnswerError where it is none."""
    if isinstance(value, bool):
        return value
    raise _bad(what, "true or false", value)


def transaction_hash(value: object, what: str) -> str:
    """Return a transaction's hash. MalformedAnswerError where it is none."""
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value.lower()
    raise _bad(what, "a hash", value)


def block(value: object) -> Block:
    """Return the head of a block. MalformedAnswerError where it is none."""
    fields = _object(value, "the block")
    base_fee = fields.get("baseFeePerGas")
    return Block(
        number=quantity(fields.get("number"), "the block's number"),
        timestamp=quantity(fields.get("timestamp"), "the block's timestamp"),
        base_fee=None if base_fee is None else quantity(base_fee, "the block's base fee"),
    )


def receipt(value: object) -> Receipt | None:
    """Return a receipt, None where there is none yet. MalformedAnswerError where it is neither."""
    if value is None:
        return None
    fields = _object(value, "the receipt")
    if fields.get("blockNumber") is None:
        return None
    price = fields.get("effectiveGasPrice")
    return Receipt(
        hash=transaction_hash(fields.get("transactionHash"), "the receipt's hash"),
        block_number=quantity(fields.get("blockNumber"), "the receipt's block"),
        succeeded=quantity(fields.get("status"), "the receipt's status") == 1,
        gas_used=quantity(fields.get("gasUsed"), "the receipt's gas"),
        gas_price=0 if price is None else quantity(price, "the receipt's gas price"),
        events=_events(fields.get("logs")),
    )


def receipt_of(transaction: str, value: object) -> Receipt | None:
    """Return the receipt of this transaction, None where there is none yet. MalformedAnswerError for another's."""
    found = receipt(value)
    if found is not None and found.hash != transaction:
        raise _bad("the receipt", f"of {transaction}", found.hash)
    return found


def _events(value: object) -> tuple[Event, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _bad("the receipt's events", "a list", value)
    return tuple(_event(_object(entry, "an event")) for entry in value)


def _event(fields: Mapping[str, object]) -> Event:
    topics, address = fields.get("topics"), data(fields.get("address"), "an event's contract")
    if not isinstance(topics, list):
        raise _bad("an event's topics", "a list", topics)
    return Event(
        address="0x" + address.hex(),
        topics=tuple(data(topic, "an event's topic") for topic in topics),
        data=data(fields.get("data"), "an event's data"),
    )


def _object(value: object, what: str) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    raise _bad(what, "an object", value)


def _bad(what: str, wanted: str, value: object) -> MalformedAnswerError:
    return MalformedAnswerError(f"{repr(value)[:80]} for {what}, which is not {wanted}")
