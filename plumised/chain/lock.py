"""A lock beside the keystore: two daemons with one wallet would fight over nonces and timestamps."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from plumised.chain.secret_files import SecretFileError, ensure_private_directory, give_to_owner
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class WalletInUseError(OperatorError):
    """Another process works with the same wallet."""

    code = "wallet-in-use"


class WalletLock:
    """Exclusive use of a keystore, from entering to leaving the context or to the death of the process.

    The kernel holds the lock (flock on `<keystore>.lock`), so a crash leaves none behind. The file's content only names
    the holder for people.

    Args:
        keystore: the wallet's file; it need not exist yet.
        now: the holder's start, for the message that a second one gets.
    """

    def __init__(self, keystore: Path, now: datetime | None = None) -> None:
        self._path = keystore.with_name(keystore.name + ".lock")
        self._since = (now or datetime.now(UTC)).isoformat(timespec="seconds")
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock without waiting.

        Raises:
            WalletInUseError: somebody has it; names who and since when.
            SecretFileError: the lock's file cannot be created.
        """
        try:
            ensure_private_directory(self._path.parent)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SecretFileError(
                f"{self._path} cannot be created: {error.strerror}",
                f"Let the service's account write to {self._path.parent}, or keep the keystore in the state directory.",
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise WalletInUseError(
                f"The wallet of {self._path} is in use by {holder}",
                "Stop that process first, or give this node a wallet of its own.",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise SecretFileError(
                f"{self._path} cannot be locked: {error.strerror}", "Keep the keystore on a local file system."
            ) from None
        self._descriptor = descriptor
        # The lock holds without its note, so a full disk is no reason to refuse to start.
        with suppress(OSError):
            give_to_owner(descriptor, self._path.parent)
            note = {"pid": os.getpid(), "since": self._since, "host": socket.gethostname()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(note).encode("utf-8"), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            # The file stays: removing it would let two processes lock two files of the same name.
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _holder(descriptor: int) -> str:
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(note['pid'])} on {note['host']} since {note['since']}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return "another process"
