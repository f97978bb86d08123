"""One inference session on one server: messages of petals' rpc_inference over a stream of libp2p.

Own framing instead of hivemind's stub: one write a message, and a stream that can be given up at any moment, which is
how the server learns that its session is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError
from hivemind.p2p import P2P
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError
from hivemind.proto import p2pd_pb2, runtime_pb2
from petals.server.handler import TransformerConnectionHandler

if TYPE_CHECKING:
    from hivemind.p2p import PeerID

_RPC: Final = f"{TransformerConnectionHandler.__name__}.{TransformerConnectionHandler.rpc_inference.__name__}"
"""As hivemind's servicers name their RPCs."""

_LARGEST_MESSAGE: Final = 256 * 2**20
_FAREWELL_S: Final = 2.0


class ServerFailedError(Exception):
    """A server did not answer as it should; another one, or another try, may."""

    def __init__(self, peer: PeerID, reason: str) -> None:
        super().__init__(f"{peer}: {reason}")
        self.peer = peer


class ServerRefusedError(ServerFailedError):
    """The server has answered with an error."""


class ServerStream:
    """An open session. What it is asked fails with `ServerFailedError`; then the stream is to be given up.

    Made by `open`.
    """

    def __init__(self, peer: PeerID, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, p2p: P2P, peer: PeerID, *, timeout_s: float) -> ServerStream:
        """Connect.

        Raises:
            ServerFailedError: the server cannot be reached in this time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                _, reader, writer = await p2p.call_binary_stream_handler(peer, _RPC)
        except (P2PDaemonError, OSError, EOFError) as error:
            raise ServerFailedError(peer, f"cannot be reached: {_text(error)}") from error
        return cls(peer, reader, writer)

    async def send(self, request: runtime_pb2.ExpertRequest, *, timeout_s: float) -> None:
        """Send one message."""
        content = request.SerializeToString()
        try:
            self._writer.write(P2P.MESSAGE_MARKER + len(content).to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER) + content)
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise ServerFailedError(self.peer, f"takes nothing more: {_text(error)}") from error

    async def receive(self, *, timeout_s: float) -> runtime_pb2.ExpertResponse:
        """The next message.

        Raises:
            ServerRefusedError: it is an error.
        """
        try:
            async with asyncio.timeout(timeout_s):
                head = await self._reader.readexactly(1 + P2P.HEADER_LEN)
                length = int.from_bytes(head[1:], P2P.BYTEORDER)
                if length > _LARGEST_MESSAGE:
                    raise ServerFailedError(self.peer, f"sends {length} bytes at once")
                content = await self._reader.readexactly(length)
            if head[:1] == P2P.MESSAGE_MARKER:
                return runtime_pb2.ExpertResponse.FromString(content)
            if head[:1] == P2P.ERROR_MARKER:
                raise ServerRefusedError(self.peer, f"answers: {p2pd_pb2.RPCError.FromString(content).message}")
        except TimeoutError:
            raise ServerFailedError(self.peer, f"has not answered within {timeout_s:.1f} s") from None
        except (OSError, EOFError) as error:
            raise ServerFailedError(self.peer, f"has closed the stream: {_text(error)}") from error
        except DecodeError as error:
            raise ServerFailedError(self.peer, f"sends no message: {error}") from error
        raise ServerFailedError(self.peer, "sends no message")

    async def finish(self) -> None:
        """End the session in order; its server frees it before this returns, or within moments."""
        # An empty request ends it; anything but the end of the stream would be an answer to what was not asked.
        with contextlib.suppress(ServerFailedError):
            await self.send(runtime_pb2.ExpertRequest(), timeout_s=_FAREWELL_S)
            await self.receive(timeout_s=_FAREWELL_S)
        self.give_up()

    def give_up(self) -> None:
        """End the session at once, whatever it is at; its server frees it as soon as it notices."""
        self._writer.close()


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
