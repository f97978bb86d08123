"""Blocks, transactions and receipts as the JSON that an Ethereum node shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth.constants import CREATE_CONTRACT_ADDRESS
from eth_bloom.bloom import BloomFilter
from eth_utils.address import to_checksum_address

from tests.devnet.chain.blockchain import CHAIN_ID

if TYPE_CHECKING:
    from eth.abc import SignedTransactionAPI
    from pydantic import JsonValue

    from tests.devnet.chain.blocks import Log, Mined, Sealed
    from tests.devnet.chain.mempool import Waiting


def quantity(value: int) -> str:
    return hex(value)


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def address(raw: bytes) -> str:
    return str(to_checksum_address(raw))


def block(sealed: Sealed, *, full: bool) -> dict[str, JsonValue]:
    """Render a block, with whole transactions if `full` and their hashes otherwise."""
    header = sealed.header
    transactions: list[JsonValue] = [
        transaction(mined.transaction, mined.sender, (sealed, mined)) if full else hexed(mined.hash)
        for mined in sealed.mined
    ]
    return {
        "number": quantity(sealed.number),
        "hash": hexed(sealed.hash),
        "parentHash": hexed(header.parent_hash),
        "nonce": hexed(header.nonce),
        "sha3Uncles": hexed(header.uncles_hash),
        "logsBloom": _bloom(header.bloom),
        "transactionsRoot": hexed(header.transaction_root),
        "stateRoot": hexed(header.state_root),
        "receiptsRoot": hexed(header.receipt_root),
        "miner": hexed(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": quantity(0),
        "extraData": hexed(header.extra_data),
        "mixHash": hexed(header.mix_hash),
        "size": quantity(sealed.size),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(sealed.base_fee),
        "uncles": [],
        "transactions": transactions,
    }


def waiting(entry: Waiting) -> dict[str, JsonValue]:
    """Render a transaction of the pool."""
    return transaction(entry.transaction, entry.sender, None)


def transaction(
    signed: SignedTransactionAPI, sender: bytes, place: tuple[Sealed, Mined] | None
) -> dict[str, JsonValue]:
    """Render a transaction with its place in the chain, None when it has none yet."""
    kind = signed.type_id or 0
    shown: dict[str, JsonValue] = {
        "type": quantity(kind),
        "hash": hexed(signed.hash),
        "from": hexed(sender),
        "to": recipient(signed),
        "nonce": quantity(signed.nonce),
        "gas": quantity(signed.gas),
        "value": quantity(signed.value),
        "input": hexed(signed.data),
        "r": quantity(signed.r),
        "s": quantity(signed.s),
        "v": quantity(signed.y_parity),
        "chainId": quantity(CHAIN_ID),
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        "gasPrice": quantity(signed.max_fee_per_gas),
    }
    if kind:
        shown["yParity"] = quantity(signed.y_parity)
        shown["accessList"] = [
            {"address": hexed(account), "storageKeys": [hexed(key.to_bytes(32, "big")) for key in keys]}
            for account, keys in signed.access_list
        ]
    else:
        shown["v"] = quantity(signed.y_parity + 35 + 2 * CHAIN_ID)
    if kind == 2:
        shown["maxFeePerGas"] = quantity(signed.max_fee_per_gas)
        shown["maxPriorityFeePerGas"] = quantity(signed.max_priority_fee_per_gas)
    if place is not None:
        sealed, mined = place
        shown |= {
            "blockHash": hexed(sealed.hash),
            "blockNumber": quantity(sealed.number),
            "transactionIndex": quantity(mined.index),
            "gasPrice": quantity(mined.gas_price),
        }
    return shown


def recipient(signed: SignedTransactionAPI) -> str | None:
    return None if signed.to == CREATE_CONTRACT_ADDRESS else hexed(signed.to)


def receipt(sealed: Sealed, mined: Mined) -> dict[str, JsonValue]:
    """Render what became of a mined transaction."""
    return {
        "transactionHash": hexed(mined.hash),
        "transactionIndex": quantity(mined.index),
        "blockHash": hexed(sealed.hash),
        "blockNumber": quantity(sealed.number),
        "from": hexed(mined.sender),
        "to": recipient(mined.transaction),
        "type": quantity(mined.transaction.type_id or 0),
        "status": quantity(int(mined.succeeded)),
        "gasUsed": quantity(mined.gas_used),
        "cumulativeGasUsed": quantity(mined.cumulative_gas),
        "effectiveGasPrice": quantity(mined.gas_price),
        "contractAddress": None if mined.created is None else hexed(mined.created),
        "logsBloom": _bloom(mined.bloom),
        "logs": [log(sealed, mined, entry) for entry in mined.logs],
    }


def log(sealed: Sealed, mined: Mined, entry: Log) -> dict[str, JsonValue]:
    """Render an event with its place in the chain."""
    return {
        "address": hexed(entry.address),
        "topics": [hexed(topic) for topic in entry.topics],
        "data": hexed(entry.data),
        "blockNumber": quantity(sealed.number),
        "blockHash": hexed(sealed.hash),
        "transactionHash": hexed(mined.hash),
        "transactionIndex": quantity(mined.index),
        "logIndex": quantity(entry.index),
        "removed": False,
    }


def _bloom(bloom: int) -> str:
    return hexed(int(BloomFilter(bloom)).to_bytes(256, "big"))
