"""Lets in, or turns away, who connects to the control socket: by process, as the kernel names it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

_log: Final = logging.getLogger(__name__)

_CREDENTIALS: Final = struct.Struct("3i")
"""pid, uid, gid: struct ucred of unix(7)."""

_SO_PEERPIDFD: Final = 77
"""<asm-generic/socket.h>, from Linux 6.5 on."""

_QUIET_S: Final = 60.0
"""After a refusal is logged, others are not for so long."""


class ClosedToEngineError(PlumisedError):
    """Who has connected is of the daemon's own engine."""

    code = "control-engine"


_REFUSAL: Final = ClosedToEngineError(
    "The control socket is closed to the daemon's own engine", "Ask from a process that the daemon has not started."
)
_BODY: Final = json.dumps({"code": _REFUSAL.code, "message": _REFUSAL.message, "remedy": _REFUSAL.remedy}).encode()
_ANSWER: Final = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class Door:
    """Makes the protocol of each connection: the server's, for those who may come in.

    Args:
        server: serves them.
        closed_to: tells by its pid who may not; the pid is 0 for a process outside of this pid namespace.
        clock: monotonic seconds.
    """

    def __init__(
        self, server: web.Server, closed_to: Callable[[int], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._closed_to = closed_to
        self._clock = clock
        self._quiet_until = clock()

    def __call__(self) -> asyncio.Protocol:
        """The protocol of the next connection."""
        return _Threshold(self)

    def enter(self, transport: asyncio.Transport) -> None:
        """Somebody has connected."""
        connection: socket.socket = transport.get_extra_info("socket")
        pid = _pid(connection)
        # Looked up at once, while the process that the kernel names can hardly be another one yet.
        if self._closed_to(pid) or _ended(connection):
            if self._clock() >= self._quiet_until:
                _log.warning("turned process %d, of the engine, away from the control socket", pid)
                self._quiet_until = self._clock() + _QUIET_S
            transport.write(_ANSWER)
            transport.close()
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)


class _Threshold(asyncio.Protocol):
    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._door.enter(cast("asyncio.Transport", transport))


def _pid(connection: socket.socket) -> int:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return pid


def _ended(connection: socket.socket) -> bool:
    """Whether the process that connected has ended, so that its pid may be another's; False if that cannot be told."""
    with suppress(OSError):
        descriptor = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(0))
        finally:
            os.close(descriptor)
    return False
