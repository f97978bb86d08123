"""The streams that p2pd opens to a handler: who comes in, how much is read ahead, and how long a reply waits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from contextvars import ContextVar
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final, Protocol

from hivemind.p2p import P2P
from hivemind.proto.p2pd_pb2 import RPCError

from plumised.petals.guard import backlog
from plumised.petals.guard.backlog import Backlog
from plumised.petals.guard.quiet import tell_refused
from plumised.petals.guard.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from plumised.petals.guard.gate import Gate, Place
    from plumised.petals.guard.limits import Limits

_PART: Final = 2**18
"""Bytes that are read at a time, and that a peer has to send to take room."""
_AHEAD: Final = 2
"""Messages of a stream that may be there: the one that is served and the next."""
_MARKERS: Final = (P2P.MESSAGE_MARKER, P2P.ERROR_MARKER)

_LAST_WORDS: Final = 65_536
_SAYS_NOTHING: Final = "a stream on which nothing is said"
_MAKES_ROOM: Final = "idle for too long where others need the room"

current: ContextVar[Stream] = ContextVar("current")
"""The stream whose RPC is being served."""


class Stream:
    """One stream of a peer.

    Args:
        place: that it takes.
        limits: of the handler.

    Attributes:
        taken_last: the message that its RPC has taken last, checked.
    """

    def __init__(self, place: Place, limits: Limits) -> None:
        self.place = place
        self.limits = limits
        self._room = asyncio.Semaphore(_AHEAD)
        self.taken_last: Any = None
        self._waiting: deque[int] = deque()
        self._served = 0

    async def read(self, reader: asyncio.StreamReader, size: int) -> bytes:
        """Read a message's content.

        Raises:
            Refusal: it is too long, or there is no room for it.
        """
        if size > self.limits.message_bytes:
            raise Refusal(f"a message of {size} bytes where {self.limits.message_bytes} are the most")
        await self._room.acquire()
        parts: list[bytes] = []
        for start in range(0, size, _PART):
            part = min(_PART, size - start)
            # Before they are read: what is refused stays in the peer's own buffers.
            await self.place.bring(part)
            parts.append(await reader.readexactly(part))
        self._waiting.append(size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def taken(self, *, keeps: bool) -> None:
        """The RPC has taken the next message; unless it keeps them, it is done with the one before."""
        self._room.release()
        if not keeps:
            self.place.use_up(self._served)
        self._served = self._waiting.popleft()


class _Next(Enum):
    """What comes next on a stream, as upstream reads it."""

    MARKER = auto()
    LENGTH = auto()
    CONTENT = auto()
    END = auto()


class GuardedReader:
    """In the place of the stream's reader, for `P2P.receive_protobuf`: it reads a marker, a length, and the content."""

    def __init__(self, reader: asyncio.StreamReader, stream: Stream) -> None:
        self._reader = reader
        self._stream = stream
        self._next = _Next.MARKER
        self._ends = False

    async def readexactly(self, size: int) -> bytes:
        """Read so many bytes.

        Raises:
            Refusal: they may not come.
        """
        match self._next:
            case _Next.MARKER:
                marker = await self._reader.readexactly(size)
                if marker not in _MARKERS:
                    raise Refusal("what is no message")
                self._ends = marker == P2P.ERROR_MARKER
                self._next = _Next.LENGTH
                return marker
            case _Next.LENGTH:
                length = await self._reader.readexactly(size)
                self._next = _Next.END if self._ends else _Next.CONTENT
                return length
            case _Next.CONTENT:
                content = await self._stream.read(self._reader, size)
                self._next = _Next.MARKER
                return content
            case _Next.END:
                if size > _LAST_WORDS:
                    raise Refusal(f"{size} bytes after the last message")
                # Nothing follows but the end of the connection.
                self._next = _Next.MARKER
                return await self._reader.readexactly(size)


class GuardedWriter:
    """What upstream writes a reply to. A peer that does not read it does not hold what it occupies for long."""

    def __init__(self, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self._writer = writer
        self._limits = limits

    def write(self, data: bytes) -> None:
        """Write bytes; see `drain`."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the peer has read enough.

        Raises:
            TimeoutError: it does not.
        """
        async with asyncio.timeout(self._limits.unread_s):
            await self._writer.drain()

    def close(self) -> None:
        """Close the stream."""
        self._writer.close()


class Checker(Protocol):
    """Raises a `Refusal` where the messages of an RPC are not well-formed."""

    def take(self, request: Any, /) -> None:
        """The next message."""

    def end(self) -> None:
        """There is no other."""


class StreamRequests:
    """The messages of a streamed RPC, as the RPC takes them; ends with a `Refusal` when it has to leave.

    Args:
        requests: as upstream gives them.
        stream: that they come on.
        checker: of the messages.
        keeps: whether the RPC keeps all of them until it ends.
    """

    def __init__(self, requests: AsyncIterator[Any], stream: Stream, checker: Checker, *, keeps: bool) -> None:
        self._requests = requests
        self._stream = stream
        self._checker = checker
        self._keeps = keeps
        self._first = True

    def __aiter__(self) -> StreamRequests:
        return self

    async def __anext__(self) -> Any:
        stream = self._stream
        limit = stream.limits.first_message_s if self._first else None
        try:
            async with stream.place.waiting(limit):
                request = await anext(self._requests)
        except TimeoutError:
            raise Refusal(_MAKES_ROOM if stream.place.leaving else _SAYS_NOTHING) from None
        except StopAsyncIteration:
            if self._first:
                # Upstream takes it for granted that there is a message.
                raise Refusal(_SAYS_NOTHING) from None
            self._checker.end()
            raise
        self._first = False
        stream.taken(keeps=self._keeps)
        if self._keeps:
            stream.place.waits()
        self._checker.take(request)
        stream.taken_last = request
        return request


def guard_streams(p2p: Any, gate: Gate, limits: Limits) -> None:
    """Let every stream handler that is added to this `P2P` from here on be called with guarded streams only."""
    p2p.add_binary_stream_handler = functools.partial(_add_handler, p2p.add_binary_stream_handler, gate, limits)


async def _add_handler(
    add: Callable[..., Awaitable[None]],
    gate: Gate,
    limits: Limits,
    name: str,
    handler: Callable[..., Awaitable[None]],
    *args: Any,
    **kwargs: Any,
) -> None:
    async def guarded(info: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guarded_writer = GuardedWriter(writer, limits)
        try:
            place = gate.enter(info.peer_id.to_bytes())
        except Refusal as refusal:
            tell_refused(refusal)
            with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError):
                await P2P.send_protobuf(RPCError(message=str(refusal)), guarded_writer)
            return
        stream, followed = Stream(place, limits), Backlog()
        # For the tasks that upstream starts for it.
        current.set(stream)
        backlog.current.set(followed)
        try:
            await handler(info, GuardedReader(reader, stream), guarded_writer)
        finally:
            followed.leave(place)

    await add(name, guarded, *args, **kwargs)
