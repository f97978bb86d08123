"""Whatever a server sends, the client gets an answer to what it asked, or learns in time that there is none."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
import torch
from hivemind.compression import serialize_torch_tensor
from hivemind.p2p import P2P, PeerID
from hivemind.proto import p2pd_pb2, runtime_pb2
from hypothesis import given
from hypothesis import strategies as st

from plumised.petals.client.messages import UnusableAnswerError, result
from plumised.petals.client.stream import ServerFailedError, ServerRefusedError, ServerStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PEER = PeerID(b"peer")
STATES = torch.arange(12, dtype=torch.float32).view(1, 3, 4)


def frame(marker: bytes, content: bytes) -> bytes:
    return marker + len(content).to_bytes(P2P.HEADER_LEN, P2P.BYTEORDER) + content


ANSWER = runtime_pb2.ExpertResponse(tensors=[serialize_torch_tensor(STATES)])
WHOLE = frame(P2P.MESSAGE_MARKER, ANSWER.SerializeToString())


@contextlib.asynccontextmanager
async def stream(sent: bytes, socket: Path, *, ends: bool = True) -> AsyncIterator[ServerStream]:
    """A stream to a server that sends this, and then ends it or falls silent."""
    finished = asyncio.Event()

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        if not ends:
            await finished.wait()
        writer.close()

    async with await asyncio.start_unix_server(serve, socket):
        opened = ServerStream(PEER, *await asyncio.open_unix_connection(socket))
        try:
            yield opened
        finally:
            opened.give_up()
            finished.set()


async def test_an_answer_is_received_whole(tmp_path: Path) -> None:
    async with stream(WHOLE + WHOLE, tmp_path / "s") as server:
        for _ in range(2):
            assert torch.equal(result(await server.receive(timeout_s=60), STATES), STATES)
        with pytest.raises(ServerFailedError, match="closed the stream"):
            await server.receive(timeout_s=60)


async def test_an_error_is_told_as_the_server_tells_it(tmp_path: Path) -> None:
    error = frame(P2P.ERROR_MARKER, p2pd_pb2.RPCError(message="no room").SerializeToString())
    async with stream(error, tmp_path / "s") as server:
        with pytest.raises(ServerRefusedError, match="no room"):
            await server.receive(timeout_s=60)


@pytest.mark.parametrize(
    ("sent", "reason"),
    {
        "nothing": (b"", "closed the stream"),
        "half a message": (WHOLE[:-1], "closed the stream"),
        "another marker": (frame(b"\x02", b""), "sends no message"),
        "no message": (frame(P2P.MESSAGE_MARKER, b"\xff" * 9), "sends no message"),
        "more than any step has": (P2P.MESSAGE_MARKER + b"\x00\x00\x01" + bytes(5), "bytes at once"),
    }.values(),
)
async def test_what_is_no_answer_is_a_failure(sent: bytes, reason: str, tmp_path: Path) -> None:
    async with stream(sent, tmp_path / "s") as server:
        with pytest.raises(ServerFailedError, match=reason):
            await server.receive(timeout_s=60)


async def test_silence_has_an_end(tmp_path: Path) -> None:
    async with stream(WHOLE[:5], tmp_path / "s", ends=False) as server:
        with pytest.raises(ServerFailedError, match="has not answered within"):
            await server.receive(timeout_s=0.05)


@given(st.lists(st.integers(0, 5), max_size=4))
def test_states_of_another_shape_are_no_result(shape: list[int]) -> None:
    answer = runtime_pb2.ExpertResponse(tensors=[serialize_torch_tensor(torch.zeros(shape))])
    if tuple(shape) == tuple(STATES.shape):
        assert result(answer, STATES).shape == STATES.shape
        return
    with pytest.raises(UnusableAnswerError):
        result(answer, STATES)


@given(
    st.binary(max_size=80),
    st.lists(st.integers(0, 9), max_size=4),
    st.sampled_from(["float32", "bfloat16", "x", ""]),
    st.sampled_from(runtime_pb2.CompressionType.values()),
)
def test_no_tensor_is_more_than_unusable(buffer: bytes, size: list[int], dtype: str, compression: int) -> None:
    tensor = runtime_pb2.Tensor(buffer=buffer, size=size, dtype=dtype, compression=compression)
    with contextlib.suppress(UnusableAnswerError):
        assert result(runtime_pb2.ExpertResponse(tensors=[tensor]), STATES).shape == STATES.shape


def test_an_answer_without_tensors_is_no_result() -> None:
    with pytest.raises(UnusableAnswerError):
        result(runtime_pb2.ExpertResponse(), STATES)
