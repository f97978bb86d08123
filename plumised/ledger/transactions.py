"""Transactions from their signing to their end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plumised.ledger.errors import LedgerDamagedError
from plumised.ledger.records import SignedAttempt, StoredTransaction, TransactionState

if TYPE_CHECKING:
    from plumised.ledger.database import Database, Row

_ENDED_KEPT = 1_000
"""Ended transactions that are kept to be looked at."""


class TransactionTable:
    """Whole records, one per (chain_id, sender, nonce)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, transaction: StoredTransaction) -> None:
        """Store it in place of what is known of its (chain_id, sender, nonce). Durable on return.

        Raises:
            LedgerError: it is as before; a transaction that could not be stored must not be sent.
        """
        with self._database.transaction(durable=True):
            self._database.execute(
                "INSERT OR REPLACE INTO transactions (chain_id, sender, nonce, state, updated_at, record)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    transaction.chain_id,
                    transaction.sender,
                    transaction.nonce,
                    transaction.state.value,
                    transaction.updated_at,
                    _encoded(transaction),
                ),
            )
            if not transaction.state.open:
                self._database.execute(
                    "DELETE FROM transactions WHERE state NOT IN ('signed', 'pending') AND rowid NOT IN"
                    " (SELECT rowid FROM transactions WHERE state NOT IN ('signed', 'pending')"
                    " ORDER BY updated_at DESC LIMIT ?)",
                    (_ENDED_KEPT,),
                )

    def unfinished(self, chain_id: int, sender: str) -> tuple[StoredTransaction, ...]:
        """Those that can still change, lowest nonce first.

        Raises:
            LedgerError: the file cannot be read.
        """
        return tuple(
            map(
                _decoded,
                self._database.rows(
                    f"{_SELECT} WHERE state IN ('signed', 'pending') AND chain_id = ? AND sender = ? ORDER BY nonce",
                    (chain_id, sender),
                ),
            ),
        )

    def recent(self, limit: int) -> tuple[StoredTransaction, ...]:
        """The last ones to change, newest first.

        Raises:
            LedgerError: the file cannot be read.
        """
        rows = self._database.rows(f"{_SELECT} ORDER BY updated_at DESC, nonce DESC LIMIT ?", (limit,))
        return tuple(map(_decoded, rows))


_SELECT = "SELECT chain_id, sender, nonce, state, updated_at, record FROM transactions"


def _encoded(transaction: StoredTransaction) -> str:
    # Wei amounts exceed SQLite's 64 bit; JSON keeps them exactly.
    return json.dumps(
        {
            "purpose": transaction.purpose,
            "to": transaction.to,
            "data": transaction.data.hex(),
            "value": transaction.value,
            "gas": transaction.gas,
            "attempts": [
                [
                    attempt.hash,
                    attempt.raw.hex(),
                    attempt.max_fee_per_gas,
                    attempt.max_priority_fee_per_gas,
                    attempt.signed_at,
                ]
                for attempt in transaction.attempts
            ],
            "block_number": transaction.block_number,
            "mined_hash": transaction.mined_hash,
            "gas_used": transaction.gas_used,
            "effective_gas_price": transaction.effective_gas_price,
            "detail": transaction.detail,
            "created_at": transaction.created_at,
            "fee_cap": transaction.fee_cap,
        },
    )


def _decoded(row: Row) -> StoredTransaction:
    try:
        record = json.loads(row.text(5))
        return StoredTransaction(
            chain_id=row.integer(0),
            sender=row.text(1),
            nonce=row.integer(2),
            purpose=record["purpose"],
            to=record["to"],
            data=bytes.fromhex(record["data"]),
            value=record["value"],
            gas=record["gas"],
            state=TransactionState(row.text(3)),
            attempts=tuple(
                SignedAttempt(hash_, bytes.fromhex(raw), fee, priority, signed_at)
                for hash_, raw, fee, priority, signed_at in record["attempts"]
            ),
            block_number=record["block_number"],
            mined_hash=record["mined_hash"],
            gas_used=record["gas_used"],
            effective_gas_price=record["effective_gas_price"],
            detail=record["detail"],
            created_at=record["created_at"],
            updated_at=row.real(4),
            # Records of earlier versions have none.
            fee_cap=record.get("fee_cap"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerDamagedError(
            f"the stored transaction with nonce {row.integer(2)} makes no sense: {error!r}",
            "restart plumised; if this stays, move the ledger away",
        ) from error
