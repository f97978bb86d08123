"""The Oracle's database: SQLite, in a file or in memory."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import fields
from typing import TYPE_CHECKING

from tests.devnet.oracle.booking import Account
from tests.devnet.oracle.views import AgentView, ProofView, RefusalView, RegistrationView, ReportView

if TYPE_CHECKING:
    from pathlib import Path

    from tests.devnet.oracle.announcement import Announcement
    from tests.devnet.oracle.report import Report

_SCHEMA = """
CREATE TABLE IF NOT EXISTS account (
    agent TEXT PRIMARY KEY, booked_tokens INTEGER, booked_requests INTEGER, last_tokens INTEGER,
    last_requests INTEGER, last_timestamp INTEGER, accepted INTEGER, restarts INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS report (
    id INTEGER PRIMARY KEY, agent TEXT, dialect TEXT, tokens INTEGER, requests INTEGER, latency_ms REAL,
    uptime_s INTEGER, timestamp INTEGER, proofs INTEGER, booked INTEGER, received_at REAL
) STRICT;
CREATE TABLE IF NOT EXISTS proof (
    id INTEGER PRIMARY KEY, agent TEXT, report INTEGER, model_hash TEXT, input_hash TEXT, output_hash TEXT,
    token_count INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS refusal (
    id INTEGER PRIMARY KEY, agent TEXT, path TEXT, status INTEGER, message TEXT, body TEXT, received_at REAL
) STRICT;
CREATE TABLE IF NOT EXISTS registration (
    id INTEGER PRIMARY KEY, agent TEXT, endpoint TEXT, capabilities TEXT, timestamp INTEGER, sponsored INTEGER
) STRICT;
"""

_ACCOUNT = tuple(field.name for field in fields(Account))


class Store:
    """Accounts, accepted reports, proofs, refusals and registrations. Used from one thread at a time.

    A file is in SQLite's rollback mode: between two writes it is all there is, so a copy of it is an old database.
    """

    def __init__(self, database: Path | None) -> None:
        self._db = sqlite3.connect(database or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # A killed process loses nothing by this, only a machine without power does; and the event loop never waits.
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database; it is not used after that."""
        self._db.close()

    def account(self, agent: str) -> Account:
        """One agent's account, empty if nothing was accepted yet."""
        columns = ", ".join(_ACCOUNT)
        with closing(self._db.execute(f"SELECT {columns} FROM account WHERE agent = ?", (agent,))) as rows:  # noqa: S608 - our own column names
            row = rows.fetchone()
        return Account(agent) if row is None else Account(*row)

    def write(self, account: Account, report: Report, booked: int, now: float) -> None:
        """Replace the account, and add the report and its proofs, whether or not they are there already."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                f"INSERT OR REPLACE INTO account ({', '.join(_ACCOUNT)}) VALUES ({', '.join('?' * len(_ACCOUNT))})",  # noqa: S608 - our own column names
                tuple(getattr(account, name) for name in _ACCOUNT),
            )
            self._db.execute(
                "INSERT INTO report (agent, dialect, tokens, requests, latency_ms, uptime_s, timestamp, proofs, booked,"
                " received_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(report.agent, report.dialect, report.tokens, report.requests, report.latency_ms),
                    *(report.uptime_s, report.timestamp, len(report.proofs), booked, now),
                ),
            )
            self._db.executemany(
                "INSERT INTO proof (agent, report, model_hash, input_hash, output_hash, token_count)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (report.agent, report.timestamp, p.model_hash, p.input_hash, p.output_hash, p.token_count)
                    for p in report.proofs
                ],
            )

    def add_refusal(self, refusal: RefusalView) -> None:
        """Keep a message that was refused."""
        self._db.execute(
            "INSERT INTO refusal (agent, path, status, message, body, received_at) VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(refusal.agent, refusal.path, refusal.status),
                *(json.dumps(refusal.message), refusal.body, refusal.received_at),
            ),
        )

    def add_registration(self, announcement: Announcement, *, sponsored: bool) -> None:
        """Keep an accepted announcement."""
        self._db.execute(
            "INSERT INTO registration (agent, endpoint, capabilities, timestamp, sponsored) VALUES (?, ?, ?, ?, ?)",
            (
                *(announcement.agent, announcement.endpoint),
                *(json.dumps(announcement.capabilities), announcement.timestamp, sponsored),
            ),
        )

    def agents(self) -> list[AgentView]:
        """Every agent that was heard of, also if all of its messages were refused."""
        rows = self._all(
            "SELECT agent FROM account UNION SELECT agent FROM refusal WHERE agent IS NOT NULL"
            " UNION SELECT agent FROM registration ORDER BY agent"
        )
        return [self.agent(str(row["agent"])) for row in rows]

    def agent(self, agent: str) -> AgentView:
        """One agent's sums."""
        account = self.account(agent)
        return AgentView(
            **{name: getattr(account, name) for name in _ACCOUNT},
            refused=self._count("SELECT COUNT(*) FROM refusal WHERE agent = ?", agent),
            proofs=self._count("SELECT COUNT(*) FROM proof WHERE agent = ?", agent),
        )

    def reports(self, agent: str | None = None, limit: int = -1) -> list[ReportView]:
        """Accepted reports, the last one first; all agents' for None, all reports for a limit of -1."""
        rows = self._all(
            "SELECT agent, dialect, tokens, requests, latency_ms, uptime_s, timestamp, proofs, booked, received_at"
            " FROM report WHERE agent = ?1 OR ?1 IS NULL ORDER BY id DESC LIMIT ?2",
            agent,
            limit,
        )
        return [ReportView.model_validate(dict(row)) for row in rows]

    def proofs(self, agent: str | None = None) -> list[ProofView]:
        """Proofs in the order in which they were inserted."""
        rows = self._all(
            "SELECT agent, report, model_hash, input_hash, output_hash, token_count"
            " FROM proof WHERE agent = ?1 OR ?1 IS NULL ORDER BY id",
            agent,
        )
        return [ProofView.model_validate(dict(row)) for row in rows]

    def refusals(self, agent: str | None = None) -> list[RefusalView]:
        """Refused messages in the order in which they came."""
        rows = self._all(
            "SELECT agent, path, status, message, body, received_at FROM refusal"
            " WHERE agent = ?1 OR ?1 IS NULL ORDER BY id",
            agent,
        )
        return [RefusalView.model_validate({**row, "message": json.loads(row["message"])}) for row in rows]

    def registrations(self, agent: str | None = None) -> list[RegistrationView]:
        """Accepted announcements in the order in which they came."""
        rows = self._all(
            "SELECT agent, endpoint, capabilities, timestamp, sponsored FROM registration"
            " WHERE agent = ?1 OR ?1 IS NULL ORDER BY id",
            agent,
        )
        return [
            RegistrationView.model_validate({**row, "capabilities": json.loads(row["capabilities"])}) for row in rows
        ]

    def _all(self, query: str, *values: str | int | None) -> list[sqlite3.Row]:
        with closing(self._db.execute(query, values)) as rows:
            return rows.fetchall()

    def _count(self, query: str, agent: str) -> int:
        return int(self._all(query, agent)[0][0])
