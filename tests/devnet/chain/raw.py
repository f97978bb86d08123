"""Reading raw signed transactions, with geth's words for those that cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth._utils.transactions import extract_chain_id, is_eip_155_signed_transaction
from eth.constants import SECPK1_N
from eth.exceptions import UnrecognizedTransactionType
from eth.rlp.transactions import BaseTransaction
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from tests.devnet.chain import evm
from tests.devnet.chain.mempool import RejectedError

if TYPE_CHECKING:
    from eth.abc import SignedTransactionAPI


def read(raw: bytes, chain_id: int) -> tuple[SignedTransactionAPI, bytes]:
    """Return a transaction with its sender; raises RejectedError."""
    transaction = _decode(raw)
    signed_for = _chain_id(transaction)
    if signed_for is None:
        raise RejectedError("only replay-protected (EIP-155) transactions allowed over RPC")
    if signed_for != chain_id:
        raise RejectedError(f"invalid sender: invalid chain id for signer: have {signed_for} want {chain_id}")
    try:
        sender = bytes(transaction.sender)
    except (BadSignature, ValidationError) as error:
        raise RejectedError("invalid sender: invalid transaction v, r, s values") from error
    if transaction.s > SECPK1_N // 2:
        raise RejectedError("invalid sender: invalid transaction v, r, s values")
    return transaction, sender


def _decode(raw: bytes) -> SignedTransactionAPI:
    if not raw:
        raise RejectedError("typed transaction too short")
    try:
        return evm.DevnetVM.get_transaction_builder().decode(raw)
    except (UnrecognizedTransactionType, ValidationError) as error:
        raise RejectedError("transaction type not supported") from error
    except (RLPException, ValueError, TypeError) as error:
        raise RejectedError(f"rlp: {error}") from error


def _chain_id(transaction: SignedTransactionAPI) -> int | None:
    if isinstance(transaction, BaseTransaction):
        return extract_chain_id(transaction.v) if is_eip_155_signed_transaction(transaction) else None
    return transaction.chain_id
