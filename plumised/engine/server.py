"""The daemon's end of the engine's socket.

It lets in processes of the running engine only, checks what they say, and hands it to one listener. Whatever one
connection does, the others do not notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

from plumised.engine.errors import SocketError
from plumised.ipc.codec import Decoder, FrameError, encode
from plumised.ipc.messages import (
    PROTOCOL,
    Beat,
    Failure,
    Hello,
    Message,
    Refused,
    Role,
    Sandbox,
    State,
    Usage,
    Welcome,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_CREDENTIALS: Final = struct.Struct("3i")
"""pid, uid, gid: struct ucred of unix(7)."""

_log: Final = logging.getLogger(__name__)

_READ: Final = 65536


class Listener(Protocol):
    """Who is told what the engine's processes say. Every call comes from the event loop's thread and must not block."""

    def connected(self, sender: Hello) -> None:
        """A process of the engine was let in."""

    def received(self, sender: Hello, message: Usage | State | Sandbox | Beat | Failure) -> None:
        """A process said something."""

    def disconnected(self, sender: Hello) -> None:
        """The connection of a process ended and no other one took its place."""


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """What the server puts up with.

    Attributes:
        connections: at most so many at once; further ones are closed unheard.
        hello_s: seconds within which a connection must have said who it is.
        backlog: connections that wait to be taken.
    """

    connections: int = 128
    hello_s: float = 5.0
    backlog: int = 64


@dataclass(frozen=True, slots=True)
class _Engine:
    incarnation: str
    session: int


class _RefusedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.refusal = Refused(code, message)


class EngineSocket:
    """The listening socket, mode 0600. An asynchronous context manager: open inside, closed and unlinked after it.

    Raises:
        SocketError: on entering: the socket cannot be made there, or another program listens on it.
    """

    def __init__(self, path: Path, listener: Listener, limits: SocketLimits | None = None) -> None:
        self._path = path
        self._listener = listener
        self._limits = limits or SocketLimits()
        self._engine: _Engine | None = None
        self._group = asyncio.TaskGroup()
        self._connections: set[asyncio.Task[None]] = set()
        self._senders: dict[Hello, asyncio.StreamWriter] = {}
        self._silent = asyncio.Event()
        self._silent.set()
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def __aenter__(self) -> Self:
        """Listen."""
        listening = _listen(self._path, self._limits.backlog)
        self._inode = self._path.stat().st_ino
        await self._group.__aenter__()
        self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=_READ)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, close every connection, remove the file."""
        if self._server is not None:
            self._server.close()
        self.expect(None)
        for task in list(self._connections):
            task.cancel()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        await self._group.__aexit__(kind, error, trace)

    def expect(self, incarnation: str | None, session: int = 0) -> None:
        """Let in the processes of this session for this incarnation, from now on and alone; None lets nobody in.

        Connections of another incarnation are closed.
        """
        self._engine = None if incarnation is None else _Engine(incarnation, session)
        for sender, writer in list(self._senders.items()):
            if sender.incarnation != incarnation:
                writer.close()

    async def silence(self, timeout_s: float) -> None:
        """Wait until everything that the engine's processes said is heard and their connections have ended.

        Raises:
            TimeoutError: a connection is still open.
        """
        async with asyncio.timeout(timeout_s):
            await self._silent.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.connections:
            writer.close()
            return
        task = self._group.create_task(self._serve(reader, writer), name="engine-connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = Decoder()
        try:
            async with asyncio.timeout(self._limits.hello_s):
                hello, early = await self._admit(reader, writer, decoder)
        except _RefusedError as error:
            _log.warning("refused a connection to the engine's socket: %s", error.refusal.message)
            writer.write(encode(error.refusal))
            writer.close()
            return
        except (TimeoutError, OSError):
            writer.close()
            return
        await self._converse(hello, early, reader, writer, decoder)

    async def _admit(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: Decoder
    ) -> tuple[Hello, list[Message]]:
        peer = _peer(writer)
        messages: list[Message] = []
        while not messages:
            data = await reader.read(_READ)
            if not data:
                raise ConnectionResetError("closed before its hello")
            try:
                messages = decoder.feed(data)
            except FrameError as error:
                raise _RefusedError("malformed", f"the hello is malformed: {error}") from None
        first, *early = messages
        hello = _check(first, peer, self._engine)
        writer.write(encode(Welcome(PROTOCOL)))
        return hello, early

    async def _converse(
        self,
        hello: Hello,
        early: list[Message],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: Decoder,
    ) -> None:
        predecessor = self._senders.get(hello)
        self._senders[hello] = writer
        self._silent.clear()
        if predecessor is None:
            self._listener.connected(hello)
        else:
            predecessor.close()
        try:
            self._hand_over(hello, writer, early)
            while data := await reader.read(_READ):
                self._hand_over(hello, writer, decoder.feed(data))
        except (FrameError, OSError):
            # A process that talks nonsense is told nothing: it reconnects, or health finds it silent.
            pass
        finally:
            writer.close()
            if self._senders.get(hello) is writer:
                del self._senders[hello]
                if not self._senders:
                    self._silent.set()
                self._listener.disconnected(hello)

    def _hand_over(self, hello: Hello, writer: asyncio.StreamWriter, messages: list[Message]) -> None:
        for message in messages:
            if self._senders.get(hello) is not writer or writer.is_closing():
                return
            if isinstance(message, Hello | Welcome | Refused):
                raise FrameError("unknown-type", "only the daemon welcomes, and a hello comes once")
            if isinstance(message, Usage) != (hello.role is Role.HANDLER) and not isinstance(message, Beat | Failure):
                raise FrameError("unknown-type", f"{type(message).__name__} does not come from {hello.role}")
            self._listener.received(hello, message)


def _check(hello: Message, peer: tuple[int, int], engine: _Engine | None) -> Hello:
    pid, uid = peer
    if not isinstance(hello, Hello):
        raise _RefusedError("malformed", "the first message is not a hello")
    if hello.protocol != PROTOCOL:
        raise _RefusedError(
            "protocol",
            f"the engine speaks protocol {hello.protocol}, the daemon {PROTOCOL}: "
            "plumise-node and plumise-engine-petals must have the same version",
        )
    if uid != os.getuid():
        raise _RefusedError("credentials", f"the process belongs to user {uid}, the daemon to {os.getuid()}")
    if hello.pid != pid:
        raise _RefusedError("credentials", f"the process is {pid} and says that it is {hello.pid}")
    if engine is None or hello.incarnation != engine.incarnation:
        raise _RefusedError("incarnation", f"{hello.incarnation[:64]!r} is not the running incarnation")
    if hello.role is Role.MAIN and pid != engine.session:
        raise _RefusedError("credentials", f"process {pid} is not the engine's main process")
    if _session_of(pid) != engine.session:
        raise _RefusedError("credentials", f"process {pid} is not of the engine's session")
    return hello


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    connection: socket.socket = writer.get_extra_info("socket")
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _listen(path: Path, backlog: int) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listening.bind(str(path))
        # Before listen(), so that nobody can connect while the mode is still what the umask made it.
        path.chmod(0o600)
        listening.listen(backlog)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SocketError(
            f"cannot listen on {path}: {error.strerror or error}",
            "See that node.runtime_dir is a short path to a directory that the daemon can write to.",
        ) from error
    except SocketError:
        listening.close()
        raise
    return listening


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path} exists and is no socket", "Move it away, or choose another node.runtime_dir.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise SocketError(
        f"another program listens on {path}", "Stop the other daemon, or give this one its own node.runtime_dir."
    )
