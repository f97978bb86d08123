"""Transactions that wait for a block: which are taken, replaced, refused and in what words, as geth does.

Pure bookkeeping: the pool is told what the state says of an account and never asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eth.abc import SignedTransactionAPI

PRICE_BUMP_PERCENT: Final = 10
MAX_DATA_BYTES: Final = 128 * 1024


class RejectedError(Exception):
    """The pool does not take a transaction; the text is geth's."""


class BelowBaseFee(StrEnum):
    """What the node does with a transaction whose fee cap is below the base fee."""

    KEEP = "keep"
    """It waits for the base fee to fall."""
    REFUSE = "refuse"
    """It is not taken, with an error."""
    DROP = "drop"
    """It is taken without a word and forgotten; so is one that waits when the base fee rises above it."""


@dataclass(frozen=True)
class Rules:
    """What the pool asks of a transaction; amounts in wei per gas."""

    chain_id: int
    gas_limit: int
    base_fee: int
    min_tip: int
    below_base_fee: BelowBaseFee


@dataclass(frozen=True)
class Account:
    """What the head's state says of a sender; balance in wei."""

    nonce: int
    balance: int


@dataclass(frozen=True)
class Waiting:
    """A transaction in the pool."""

    transaction: SignedTransactionAPI
    sender: bytes
    arrival: int

    @property
    def hash(self) -> bytes:
        return bytes(self.transaction.hash)

    @property
    def nonce(self) -> int:
        return int(self.transaction.nonce)

    @property
    def fee_cap(self) -> int:
        return int(self.transaction.max_fee_per_gas)

    @property
    def tip_cap(self) -> int:
        return int(self.transaction.max_priority_fee_per_gas)

    @property
    def cost(self) -> int:
        """The most wei that it can take from its sender."""
        return int(self.transaction.gas) * self.fee_cap + int(self.transaction.value)

    def tip(self, base_fee: int) -> int:
        return min(self.fee_cap - base_fee, self.tip_cap)


class Mempool:
    """Waiting transactions by sender and nonce."""

    def __init__(self) -> None:
        self._senders: dict[bytes, dict[int, Waiting]] = {}
        self._arrivals = 0

    def __iter__(self) -> Iterator[Waiting]:
        for queue in self._senders.values():
            yield from queue.values()

    def find(self, tx_hash: bytes) -> Waiting | None:
        return next((waiting for waiting in self if waiting.hash == tx_hash), None)

    def add(self, transaction: SignedTransactionAPI, sender: bytes, account: Account, rules: Rules) -> Waiting | None:
        """Take a transaction and return the one that it replaces, if any; raises RejectedError."""
        waiting = Waiting(transaction, sender, self._arrivals)
        if self.find(waiting.hash) is not None:
            raise RejectedError("already known")
        _check(waiting, account, rules)
        queue = self._senders.get(sender, {})
        replaced = queue.get(waiting.nonce)
        _check_funds(waiting, account, sum(other.cost for other in queue.values() if other is not replaced), replaced)
        if replaced is not None and not _outbids(waiting, replaced):
            raise RejectedError("replacement transaction underpriced")
        self._arrivals += 1
        self._senders.setdefault(sender, {})[waiting.nonce] = waiting
        return replaced

    def restore(self, transaction: SignedTransactionAPI, sender: bytes) -> None:
        """Take back a transaction whose block was reorganised away, unless its nonce is taken."""
        self._senders.setdefault(sender, {}).setdefault(
            int(transaction.nonce), Waiting(transaction, sender, self._arrivals)
        )
        self._arrivals += 1

    def remove(self, tx_hash: bytes) -> bool:
        """Forget a transaction; False when it is not there."""
        waiting = self.find(tx_hash)
        if waiting is None:
            return False
        queue = self._senders[waiting.sender]
        del queue[waiting.nonce]
        if not queue:
            del self._senders[waiting.sender]
        return True

    def prune(self, account_of: Callable[[bytes], Account], rules: Rules) -> None:
        """Forget used nonces, which can never be mined any more, and what the rules say to drop."""
        for waiting in tuple(self):
            dropped = rules.below_base_fee is BelowBaseFee.DROP and waiting.fee_cap < rules.base_fee
            if dropped or waiting.nonce < account_of(waiting.sender).nonce:
                self.remove(waiting.hash)

    def pending_nonce(self, sender: bytes, nonce: int) -> int:
        """Return the nonce after `nonce` and all that follow it without a gap."""
        queue = self._senders.get(sender, {})
        while nonce in queue:
            nonce += 1
        return nonce

    def is_queued(self, waiting: Waiting, nonce: int) -> bool:
        """Tell whether a nonce before it is missing."""
        return self.pending_nonce(waiting.sender, nonce) <= waiting.nonce

    def executable(self, account_of: Callable[[bytes], Account], rules: Rules) -> Iterator[Waiting]:
        """Yield what fits into a block, best tip first, then in order of arrival, each sender's by nonce."""
        next_nonce = {sender: account_of(sender).nonce for sender in self._senders}
        budget = {sender: account_of(sender).balance for sender in self._senders}
        gas = rules.gas_limit
        while True:
            heads = [
                queue[next_nonce[sender]] for sender, queue in self._senders.items() if next_nonce[sender] in queue
            ]
            fitting = [
                head
                for head in heads
                if head.fee_cap >= rules.base_fee
                and head.cost <= budget[head.sender]
                and int(head.transaction.gas) <= gas
            ]
            if not fitting:
                return
            best = min(fitting, key=lambda head: (-head.tip(rules.base_fee), head.arrival))
            next_nonce[best.sender] += 1
            budget[best.sender] -= best.cost
            gas -= int(best.transaction.gas)
            yield best


def _check(waiting: Waiting, account: Account, rules: Rules) -> None:
    transaction = waiting.transaction
    if len(transaction.data) > MAX_DATA_BYTES:
        raise RejectedError("oversized data")
    if transaction.gas > rules.gas_limit:
        raise RejectedError("exceeds block gas limit")
    if waiting.fee_cap < waiting.tip_cap:
        raise RejectedError("max priority fee per gas higher than max fee per gas")
    if transaction.gas < transaction.intrinsic_gas:
        raise RejectedError(f"intrinsic gas too low: gas {transaction.gas}, minimum needed {transaction.intrinsic_gas}")
    if waiting.tip_cap < rules.min_tip:
        raise RejectedError(f"transaction underpriced: gas tip cap {waiting.tip_cap}, minimum needed {rules.min_tip}")
    if waiting.fee_cap < rules.base_fee and rules.below_base_fee is BelowBaseFee.REFUSE:
        raise RejectedError(below_base_fee_text(waiting.sender, waiting.fee_cap, rules.base_fee))
    if waiting.nonce < account.nonce:
        raise RejectedError(f"nonce too low: next nonce {account.nonce}, tx nonce {waiting.nonce}")


def _check_funds(waiting: Waiting, account: Account, queued: int, replaced: Waiting | None) -> None:
    if account.balance < waiting.cost:
        raise RejectedError(
            f"insufficient funds for gas * price + value: balance {account.balance}, tx cost {waiting.cost}, "
            f"overshot {waiting.cost - account.balance}"
        )
    if account.balance < queued + waiting.cost:
        shown = queued + (replaced.cost if replaced is not None else 0)
        raise RejectedError(
            f"insufficient funds for gas * price + value: balance {account.balance}, queued cost {shown}, "
            f"tx cost {waiting.cost}, overshot {queued + waiting.cost - account.balance}"
        )


def _outbids(waiting: Waiting, replaced: Waiting) -> bool:
    pairs = ((waiting.fee_cap, replaced.fee_cap), (waiting.tip_cap, replaced.tip_cap))
    return all(offered > paid and offered >= paid * (100 + PRICE_BUMP_PERCENT) // 100 for offered, paid in pairs)


def below_base_fee_text(sender: bytes, fee_cap: int, base_fee: int) -> str:
    return (
        f"max fee per gas less than block base fee: address 0x{sender.hex()}, maxFeePerGas: {fee_cap}, "
        f"baseFee: {base_fee}"
    )
