"""The ledger's tables and how an older file becomes the present one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.ledger.errors import LedgerDamagedError, LedgerForeignError, LedgerTooNewError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from plumised.ledger.database import Database

APPLICATION_ID = 0x504C4C47
"""Marks the file as a ledger in its header ("PLLG"), so that `file` and a careless operator can tell."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE usage (
            incarnation TEXT NOT NULL, handler TEXT NOT NULL, kind TEXT NOT NULL,
            requests INTEGER NOT NULL, steps INTEGER NOT NULL, tokens INTEGER NOT NULL, service_us INTEGER NOT NULL,
            PRIMARY KEY (incarnation, handler, kind)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE folded (
            kind TEXT PRIMARY KEY,
            requests INTEGER NOT NULL, steps INTEGER NOT NULL, tokens INTEGER NOT NULL, service_us INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE TABLE closed (id INTEGER PRIMARY KEY AUTOINCREMENT, incarnation TEXT NOT NULL UNIQUE) STRICT",
        "CREATE TABLE signed (id INTEGER PRIMARY KEY CHECK (id = 1), timestamp INTEGER NOT NULL) STRICT",
        """CREATE TABLE in_flight (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            agent TEXT NOT NULL, url TEXT NOT NULL, dialect TEXT NOT NULL,
            timestamp INTEGER NOT NULL, body TEXT NOT NULL,
            base_tokens INTEGER NOT NULL, base_requests INTEGER NOT NULL, base_service_us INTEGER NOT NULL,
            covered_tokens INTEGER NOT NULL, covered_requests INTEGER NOT NULL, covered_service_us INTEGER NOT NULL
        ) STRICT""",
        """CREATE TABLE accepted (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            agent TEXT NOT NULL, url TEXT NOT NULL, dialect TEXT NOT NULL,
            timestamp INTEGER NOT NULL, at REAL NOT NULL, count INTEGER NOT NULL,
            base_tokens INTEGER NOT NULL, base_requests INTEGER NOT NULL, base_service_us INTEGER NOT NULL,
            covered_tokens INTEGER NOT NULL, covered_requests INTEGER NOT NULL, covered_service_us INTEGER NOT NULL
        ) STRICT""",
        """CREATE TABLE proofs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,
            model_hash TEXT NOT NULL, input_hash TEXT NOT NULL, output_hash TEXT NOT NULL,
            token_count INTEGER NOT NULL CHECK (token_count >= 1),
            state TEXT NOT NULL CHECK (state IN ('waiting', 'carried', 'delivered', 'refused'))
        ) STRICT""",
        "CREATE INDEX proofs_by_state ON proofs (state, id)",
        """CREATE TABLE transactions (
            chain_id INTEGER NOT NULL, sender TEXT NOT NULL, nonce INTEGER NOT NULL,
            state TEXT NOT NULL, updated_at REAL NOT NULL, record TEXT NOT NULL,
            PRIMARY KEY (chain_id, sender, nonce)
        ) STRICT""",
        "CREATE INDEX transactions_by_state ON transactions (state, chain_id, sender, nonce)",
        "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    ),
)
"""Statements that lead from schema version i to i + 1, in order. Published entries never change."""

SCHEMA_VERSION = len(MIGRATIONS)


def migrate(database: Database, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the present schema, each step in one durable transaction.

    Raises:
        LedgerTooNewError: a later version wrote it.
        LedgerForeignError: it is a database of something else.
        LedgerDamagedError: it claims a schema that it does not have, or fails SQLite's own check.
        LedgerUnavailableError: the disk refuses.
    """
    version = database.rows("PRAGMA user_version")[0].integer(0)
    application = database.rows("PRAGMA application_id")[0].integer(0)
    tables = database.rows("SELECT count(*) FROM sqlite_master")[0].integer(0)
    if application != APPLICATION_ID and (tables or version):
        raise LedgerForeignError(f"{path} is a database, but not a ledger", f"move {path} away")
    if version > len(migrations):
        raise LedgerTooNewError(
            f"{path} has schema {version}, this version of plumised knows up to {len(migrations)}",
            "install the version of plumised that was used before, or a later one",
        )
    verdict = database.rows("PRAGMA quick_check(1)")[0].text(0)
    if verdict != "ok":
        raise LedgerDamagedError(f"{path} is damaged: {verdict}", "nothing to do: it is set aside")
    for number in range(version, len(migrations)):
        with database.transaction(durable=True):
            for statement in migrations[number]:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {number + 1}")
