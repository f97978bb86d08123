"""The journal's own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL): records as fields, in datagrams."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SOCKET: Final = Path("/run/systemd/journal/socket")

_SEND_TIMEOUT_S: Final = 0.5
"""How long a full journal may hold the daemon up before the record goes to standard error instead."""

_TOO_LARGE: Final = {errno.EMSGSIZE, errno.ENOBUFS}
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def datagram(fields: Iterable[tuple[str, str]]) -> bytes:
    """The fields as the journal reads them.

    Args:
        fields: names of upper-case letters, digits and underscores, at most 64, the first a letter; and their values.
    """
    parts = bytearray()
    for name, value in fields:
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts += name.encode("ascii") + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            parts += name.encode("ascii") + b"=" + data + b"\n"
    return bytes(parts)


class JournalSocket:
    """Sends datagrams to the journal. One that restarts meanwhile is found again.

    Args:
        path: of its socket.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_SEND_TIMEOUT_S)

    def send(self, data: bytes) -> None:
        """Send one record; what is too large for a datagram goes as a sealed file in memory.

        Raises:
            OSError: there is no journal, or it does not take the record.
        """
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_as_file(data)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def _send_as_file(self, data: bytes) -> None:
        descriptor = os.memfd_create("plumised-record", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))
            self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(descriptor)


class JournalHandler(logging.Handler):
    """Writes records to the journal, and to another handler what the journal does not take.

    Args:
        journal: where to.
        render: a record's fields, bounded and without secrets.
        fallback: for a machine without a journal, or one that is full.
    """

    def __init__(
        self,
        journal: JournalSocket,
        render: Callable[[logging.LogRecord], Mapping[str, str]],
        fallback: logging.Handler,
    ) -> None:
        super().__init__()
        self._journal = journal
        self._render = render
        self._fallback = fallback

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            data = datagram(self._render(record).items())
        except Exception:  # noqa: BLE001 -- as logging's own handlers: a record that cannot be formatted ends nothing
            self.handleError(record)
            return
        try:
            self._journal.send(data)
        except OSError:
            self._fallback.handle(record)

    def close(self) -> None:
        """Give the socket back."""
        with suppress(OSError):
            self._journal.close()
        self._fallback.close()
        super().close()
