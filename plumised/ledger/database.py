"""One SQLite connection: transactions, typed rows, and SQLite's errors as ours."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from plumised.ledger.errors import LedgerDamagedError, LedgerError, LedgerFullError, LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Sql = int | float | str | bytes | None

_PRIMARY = 0xFF
"""SQLite's extended result codes keep the primary code in the low byte."""

_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOMEM,
    },
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Row:
    """One row of a result. Every getter raises LedgerDamagedError where the column has another type."""

    __slots__ = ("_values",)

    def __init__(self, values: tuple[object, ...]) -> None:
        self._values = values

    def integer(self, column: int) -> int:
        """The integer in `column`, counted from 0."""
        value = self._values[column]
        if isinstance(value, int):
            return value
        raise _unexpected(column, value)

    def real(self, column: int) -> float:
        """The number in `column`."""
        value = self._values[column]
        if isinstance(value, int | float):
            return float(value)
        raise _unexpected(column, value)

    def text(self, column: int) -> str:
        """The text in `column`."""
        value = self._values[column]
        if isinstance(value, str):
            return value
        raise _unexpected(column, value)


def _unexpected(column: int, value: object) -> LedgerDamagedError:
    return LedgerDamagedError(
        f"column {column} of the ledger holds a {type(value).__name__}",
        "plumised stops; started again, it sets the file aside and goes on",
    )


class Database:
    """A connection in autocommit mode, for use in the thread that made it."""

    def __init__(self, path: Path) -> None:
        """Open `path`, made if it is missing.

        Raises:
            LedgerDamagedError: it is no SQLite database.
            LedgerUnavailableError: it cannot be read or written at the moment.
        """
        self._path = path
        with self._errors():
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
        try:
            self.execute("PRAGMA journal_mode = WAL")
            self.execute("PRAGMA synchronous = NORMAL")
        except LedgerError:
            self._connection.close()
            raise

    def execute(self, sql: str, parameters: Iterable[Sql] = ()) -> int:
        """Run one statement and return how many rows it changed.

        Raises:
            LedgerError: as `transaction`.
        """
        with self._errors():
            return self._connection.execute(sql, tuple(parameters)).rowcount

    def rows(self, sql: str, parameters: Iterable[Sql] = ()) -> list[Row]:
        """Run one query.

        Raises:
            LedgerError: as `transaction`.
        """
        with self._errors():
            return [Row(values) for values in self._connection.execute(sql, tuple(parameters))]

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Commit all that happens inside, or nothing of it.

        Every commit survives the death of the process. One that is `durable` survives the loss of power too, and
        takes every earlier commit with it, because they share the write-ahead log that it syncs.

        Raises:
            LedgerFullError: no room on the disk.
            LedgerUnavailableError: another trouble that may pass.
            LedgerDamagedError: the content makes no sense.
        """
        with self._errors():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors, disk full among them.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Write the log back into the file as far as possible and close."""
        self._connection.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error, self._path) from error


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """The ledger's error for one of SQLite's; the same error where it is neither the disk's nor the file's fault."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & _PRIMARY if isinstance(code, int) else None
    if primary == sqlite3.SQLITE_FULL:
        return LedgerFullError(
            f"no room left on the disk of {path}",
            "free space in that file system; counting goes on in memory meanwhile",
        )
    if primary in _DAMAGED:
        return LedgerDamagedError(
            f"{path} is damaged: {error}", "plumised stops; started again, it sets the file aside and goes on"
        )
    if primary in _UNAVAILABLE:
        return LedgerUnavailableError(
            f"{path} cannot be used: {error}", "check the disk and the permissions of the file"
        )
    return error
