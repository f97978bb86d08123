"""What the transaction queue is asked to do, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from plumised.chain.answers import Event
    from plumised.chain.problems import ChainProblem


SETTLED_DEPTH = 2
"""Blocks on top of a transaction's own before it is believed, where a reorganisation would matter."""


class Purpose(StrEnum):
    """What a transaction is for. The queue holds at most one of each."""

    REGISTER = "register"
    HEARTBEAT = "heartbeat"
    CLAIM = "claim"
    VERIFY = "verify"
    REGISTRY = "registry"

    @property
    def depth(self) -> int:
        """Blocks on top of its own that make a transaction of this kind settled."""
        return SETTLED_DEPTH if self in {Purpose.REGISTER, Purpose.REGISTRY, Purpose.CLAIM} else 0


@dataclass(frozen=True, slots=True)
class Order:
    """A transaction that somebody wants to have mined.

    Attributes:
        purpose: what it is for.
        to: contract or precompile, checksummed.
        data: calldata.
        gas: limit.
        depth: blocks on top of its own that make it settled; 0 where its first receipt will do.
        fee_cap: wei per gas that it may cost at most, where that is less than the queue's cap; also binds replacements.
    """

    purpose: Purpose
    to: str
    data: bytes
    gas: int
    depth: int = 0
    fee_cap: int | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Mined with status 1.

    Attributes:
        hash: of the attempt that was mined.
        block_number: where.
        cost_wei: what it cost.
        events: of the contracts that it called.
    """

    hash: str
    block_number: int
    cost_wei: int
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Reverted:
    """Mined with status 0: it cost its gas and did nothing.

    Attributes:
        hash: of the attempt that was mined.
        block_number: where.
        cost_wei: what it cost.
    """

    hash: str
    block_number: int
    cost_wei: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Not mined, as far as the queue saw.

    Attributes:
        problem: why.
        hash: of the last attempt where one may have reached a node, else None.
    """

    problem: ChainProblem
    hash: str | None = None


Outcome = Confirmed | Reverted | Failed


class AlreadyPendingError(PlumisedError):
    """A transaction of the same purpose is not settled yet."""

    code = "transaction-pending"


class QueueFullError(PlumisedError):
    """Too many orders wait for the one that is in flight."""

    code = "transaction-queue-full"
