"""Opening the ledger's file: one process only, damage set aside, older schemas brought up."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.events import LogEvent, told
from plumised.ledger.database import Database
from plumised.ledger.errors import (
    LedgerDamagedError,
    LedgerForbiddenError,
    LedgerFullError,
    LedgerInUseError,
    LedgerUnavailableError,
)
from plumised.ledger.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = logging.getLogger(__name__)

_COMPANIONS = ("-wal", "-shm")
"""Files that SQLite keeps beside the database and that belong to its content."""


class FileLock:
    """An advisory lock that ends with the process, whatever ends it.

    It is held on a file of its own, because closing any descriptor of the database drops SQLite's POSIX locks on it.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            LedgerInUseError: another process holds it; the message names its pid.
            LedgerForbiddenError: the file cannot be made or opened.
            LedgerUnavailableError: the disk refuses.
        """
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(error, path) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LedgerInUseError(
                f"the ledger beside {path} is in use by process {holder}",
                "stop the other plumised, or give this one another state_dir",
            ) from None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            os.close(self._descriptor)
            raise _unusable(error, path) from error

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._descriptor)


def _unusable(error: OSError, path: Path) -> LedgerForbiddenError | LedgerUnavailableError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return LedgerFullError(f"no room left on the disk of {path}", "free space in that file system")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR}:
        return LedgerForbiddenError(
            f"{path} cannot be written: {error.strerror}",
            f"make {path.parent} a directory that the user of plumised owns",
        )
    return LedgerUnavailableError(f"{path} cannot be used: {error.strerror}", "check the disk")


@dataclass(frozen=True)
class Opened:
    """What opening gives.

    Attributes:
        database: at the present schema.
        lock: held until it is released.
        set_aside: where a damaged file was put, or None.
    """

    database: Database
    lock: FileLock
    set_aside: Path | None


def open_ledger(path: Path, clock: Callable[[], float]) -> Opened:
    """Open the ledger at `path`, made with mode 0600 if it is missing.

    A damaged file is renamed to `<name>.damaged-<seconds since the epoch>` with its companions, and an empty one
    takes its place.

    Raises:
        LedgerInUseError, LedgerTooNewError, LedgerForeignError, LedgerForbiddenError: the operator must act.
        LedgerUnavailableError: the disk refuses at the moment.
        LedgerDamagedError: the file that replaced a damaged one is damaged too.
    """
    lock = FileLock(path.with_name(path.name + ".lock"))
    try:
        try:
            return Opened(_open(path), lock, None)
        except LedgerDamagedError as damage:
            kept = _set_aside(path, int(clock()))
            log.error(  # noqa: TRY400 - the damage is told in one line; a traceback adds nothing for an operator
                "%s. It is kept as %s; counting starts anew, and what was reported before stays credited",
                damage.message,
                kept,
                extra=told(LogEvent.LEDGER_TROUBLE, reason=damage.code),
            )
            return Opened(_open(path), lock, kept)
    except BaseException:
        lock.release()
        raise


def _open(path: Path) -> Database:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _unusable(error, path) from error
    database = Database(path)
    try:
        migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _set_aside(path: Path, now: int) -> Path:
    while (kept := path.with_name(f"{path.name}.damaged-{now}")).exists():
        now += 1
    try:
        for suffix in _COMPANIONS:
            companion = path.with_name(path.name + suffix)
            if companion.exists():
                companion.rename(kept.with_name(kept.name + suffix))
        path.rename(kept)
    except OSError as error:
        raise _unusable(error, path) from error
    return kept
