"""The unix socket that the control server listens on: taken over from the dead, refused to a second daemon."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

MODE = 0o660
LONGEST_PATH = 107
"""Bytes of a socket's path: sun_path of unix(7) less the NUL."""
PROBE_TIMEOUT_S = 1.0


class ControlSocketError(OperatorError):
    """The control socket cannot be made."""

    code = "control-socket"


class ControlSocketInUseError(ControlSocketError):
    """A living daemon listens at the control socket."""

    code = "control-socket-in-use"


class ControlSocket:
    """The socket's file and the lock beside it, which tells a dead daemon's socket from a living one's.

    Args:
        path: of the socket; the lock is `<path>.lock`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None
        self._made: tuple[int, int] | None = None

    def open(self) -> socket.socket:
        """Make the socket, bound and not yet listening; what a dead daemon left is replaced.

        Raises:
            ControlSocketInUseError: a living daemon has it.
            ControlSocketError: it cannot be made for another reason.
        """
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise ControlSocketError(
                f"The path of the control socket, {self._path}, has more than {LONGEST_PATH} bytes",
                "Choose a shorter one for node.control_socket or node.runtime_dir.",
            )
        try:
            self._take_lock()
            self._clear()
            made = self._bind()
        except OSError as error:
            self.close()
            raise ControlSocketError(
                f"The control socket {self._path} cannot be made: {error.strerror or error}",
                "Let the user that runs plumised write to its directory, or choose another for node.control_socket.",
            ) from None
        except ControlSocketError:
            self.close()
            raise
        return made

    def close(self) -> None:
        """Remove the socket's file, if it is still the one that was made, and give the lock back."""
        if self._made is not None:
            with suppress(OSError):
                found = self._path.lstat()
                if (found.st_dev, found.st_ino) == self._made:
                    self._path.unlink()
            self._made = None
        if self._lock is not None:
            # The lock's file stays: removing it would let two processes lock two files of the same name.
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        lock = self._path.with_name(f"{self._path.name}.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._in_use() from None
        self._lock = descriptor

    def _clear(self) -> None:
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            raise ControlSocketError(
                f"{self._path} is there and is not a socket",
                "Remove it, or choose another path for node.control_socket.",
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_TIMEOUT_S)
            try:
                probe.connect(str(self._path))
            except (ConnectionRefusedError, FileNotFoundError):
                self._path.unlink(missing_ok=True)
                return
            except OSError:
                # Whoever does not take a connection in time is alive and busy.
                raise self._in_use() from None
        raise self._in_use()

    def _bind(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            made.bind(str(self._path))
            # Nobody can connect before it listens, so nobody comes in under the mode that bind() gave it.
            self._path.chmod(MODE)
            found = self._path.lstat()
        except OSError:
            made.close()
            raise
        self._made = (found.st_dev, found.st_ino)
        return made

    def _in_use(self) -> ControlSocketInUseError:
        return ControlSocketInUseError(
            f"Another daemon listens at {self._path}",
            "Stop it first (plumised stop), or give this node its own node.runtime_dir.",
        )
