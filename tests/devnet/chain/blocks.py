"""Blocks and the outcome of their transactions, as the chain keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eth._utils.address import generate_contract_address
from eth.constants import CREATE_CONTRACT_ADDRESS
from eth.exceptions import InvalidInstruction, OutOfGas, WriteProtection
from eth_typing import Address

if TYPE_CHECKING:
    from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, ReceiptAPI, SignedTransactionAPI


@dataclass(frozen=True)
class Log:
    """An event; `index` counts within its block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    index: int


@dataclass(frozen=True)
class Mined:
    """A transaction in a block, with its outcome. Fees in wei per gas."""

    transaction: SignedTransactionAPI
    sender: bytes
    index: int
    succeeded: bool
    error: str | None
    gas_used: int
    cumulative_gas: int
    gas_price: int
    bloom: int
    logs: tuple[Log, ...]
    created: bytes | None

    @property
    def hash(self) -> bytes:
        return bytes(self.transaction.hash)


@dataclass(frozen=True)
class Sealed:
    """A block with the outcome of its transactions."""

    header: BlockHeaderAPI
    base_fee: int
    size: int
    mined: tuple[Mined, ...]

    @property
    def hash(self) -> bytes:
        return bytes(self.header.hash)

    @property
    def number(self) -> int:
        return int(self.header.block_number)


def size_of(block: BlockAPI) -> int:
    """Return about how many bytes a block has; clients only show the number."""
    return 500 + sum(len(transaction.encode()) for transaction in block.transactions)


def error_text(computation: ComputationAPI) -> str | None:
    """Say in geth's words why a call failed; None when it did not."""
    if computation.is_success:
        return None
    if not computation.should_burn_gas:
        return "execution reverted"
    match computation.error:
        case OutOfGas():
            return "out of gas"
        case WriteProtection():
            return "write protection"
        case InvalidInstruction():
            return "invalid opcode: INVALID"
        case error:
            return str(error)


def outcome_of(
    transaction: SignedTransactionAPI,
    sender: bytes,
    index: int,
    receipt: ReceiptAPI,
    computation: ComputationAPI,
    base_fee: int,
    gas_before: int,
    logs_before: int,
) -> Mined:
    """Describe a transaction that was executed, after `gas_before` and `logs_before` of the same block."""
    creates = transaction.to == CREATE_CONTRACT_ADDRESS
    return Mined(
        transaction=transaction,
        sender=sender,
        index=index,
        succeeded=computation.is_success,
        error=error_text(computation),
        gas_used=int(receipt.gas_used) - gas_before,
        cumulative_gas=int(receipt.gas_used),
        gas_price=min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base_fee),
        bloom=int(receipt.bloom),
        logs=tuple(
            Log(bytes(log.address), tuple(topic.to_bytes(32, "big") for topic in log.topics), bytes(log.data), at)
            for at, log in enumerate(receipt.logs, start=logs_before)
        ),
        created=bytes(generate_contract_address(Address(sender), transaction.nonce)) if creates else None,
    )
