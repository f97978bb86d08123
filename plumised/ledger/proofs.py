"""The outbox of proofs: each waits until a report that carried it was accepted, and is never carried again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from plumised.ledger.records import Proof, StoredProof

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plumised.ledger.database import Database, Row

_log = logging.getLogger(__name__)

_WAITING_KEPT = 250_000
"""Proofs that wait at most, about 90 MB; the oldest go first. An Oracle that takes none must not fill the disk."""

_DELIVERED_KEPT = 100_000
"""Delivered and refused proofs that are remembered, so that a repeated one is known."""


class ProofTable:
    """States: waiting, carried (by the report in flight), delivered, refused."""

    def __init__(self, database: Database, waiting_kept: int = _WAITING_KEPT) -> None:
        self._database = database
        self._waiting_kept = waiting_kept

    def add(self, proofs: Iterable[Proof]) -> None:
        """Put proofs into the outbox; those whose key is known are left as they are.

        Where too many wait, the oldest are given up, and the log says so.

        Raises:
            ValueError: a token count below 1, which the Oracle refuses.
            LedgerError: none was added.
        """
        proofs = tuple(proofs)
        if any(proof.token_count < 1 for proof in proofs):
            raise ValueError("a proof must be of at least one token")
        with self._database.transaction():
            for proof in proofs:
                self._database.execute(
                    "INSERT OR IGNORE INTO proofs (key, model_hash, input_hash, output_hash, token_count, state)"
                    " VALUES (?, ?, ?, ?, ?, 'waiting')",
                    (proof.key, proof.model_hash, proof.input_hash, proof.output_hash, proof.token_count),
                )
            given_up = self._database.execute(
                "DELETE FROM proofs WHERE state = 'waiting' AND id <= (SELECT id FROM proofs WHERE state = 'waiting'"
                " ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (self._waiting_kept,),
            )
        if given_up:
            _log.warning("%d proofs are given up: more than %d wait to be reported", given_up, self._waiting_kept)

    def waiting(self, limit: int) -> tuple[StoredProof, ...]:
        """The oldest `limit` proofs that no report carries.

        Raises:
            LedgerError: the file cannot be read.
        """
        rows = self._database.rows(
            "SELECT id, key, model_hash, input_hash, output_hash, token_count FROM proofs"
            " WHERE state = 'waiting' ORDER BY id LIMIT ?",
            (limit,),
        )
        return tuple(map(_stored, rows))

    def recent(self, after: int, limit: int) -> tuple[StoredProof, ...]:
        """The newest `limit` proofs with an id above `after`, oldest first, whatever the reports have done with them.

        Raises:
            LedgerError: the file cannot be read.
        """
        rows = self._database.rows(
            "SELECT id, key, model_hash, input_hash, output_hash, token_count FROM proofs"
            " WHERE id > ? ORDER BY id DESC LIMIT ?",
            (after, limit),
        )
        return tuple(map(_stored, reversed(rows)))

    def count_waiting(self) -> int:
        """How many no report carries.

        Raises:
            LedgerError: the file cannot be read.
        """
        return self._database.rows("SELECT count(*) FROM proofs WHERE state = 'waiting'")[0].integer(0)

    def refuse(self, ids: Iterable[int]) -> None:
        """The Oracle will never take these: keep them out of every report.

        Raises:
            LedgerError: it is as before.
        """
        with self._database.transaction(durable=True):
            for number in ids:
                self._database.execute("UPDATE proofs SET state = 'refused' WHERE id = ?", (number,))

    def carried(self) -> tuple[int, ...]:
        """Ids of those in the report in flight. Part of the caller's transaction, as all that follow."""
        return tuple(
            row.integer(0) for row in self._database.rows("SELECT id FROM proofs WHERE state = 'carried' ORDER BY id")
        )

    def carry(self, ids: Iterable[int]) -> None:
        """They go with the report in flight."""
        for number in ids:
            self._database.execute("UPDATE proofs SET state = 'carried' WHERE id = ? AND state = 'waiting'", (number,))

    def deliver(self) -> None:
        """The report that carries them was accepted."""
        self._database.execute("UPDATE proofs SET state = 'delivered' WHERE state = 'carried'")
        self._database.execute(
            "DELETE FROM proofs WHERE state IN ('delivered', 'refused') AND id <= (SELECT max(id) FROM proofs) - ?",
            (_DELIVERED_KEPT,),
        )

    def release(self) -> None:
        """The report that carried them will never be accepted."""
        self._database.execute("UPDATE proofs SET state = 'waiting' WHERE state = 'carried'")


def _stored(row: Row) -> StoredProof:
    return StoredProof(row.integer(0), Proof(row.text(1), row.text(2), row.text(3), row.text(4), row.integer(5)))
