"""What a handler hashes, and what it does when proofs cannot be kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from eth_utils.crypto import keccak
from hivemind import serialize_torch_tensor
from hivemind.proto import runtime_pb2
from hypothesis import given
from hypothesis import strategies as st
from petals.utils.packaging import pack_args_kwargs

from plumised.ipc.proofs import ProofWriter, ServedRequest, read_segment, segments
from plumised.petals.proofs import Passing, Prover, hidden_states, little_endian_bytes, model_digest

MODEL = model_digest("any")


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def prover(directory: Path, clock: Clock | None = None, **writer: int) -> Prover:
    return Prover(ProofWriter(directory, "life-1", 0, 7, MODEL, **writer), torch.float32, clock or Clock())


def told(directory: Path) -> list[ServedRequest]:
    found: list[ServedRequest] = []
    for segment in segments(directory):
        content = read_segment(segment.path, 2**62)
        assert content is not None
        found += content.requests
    return found


def values(*shape: int) -> torch.Tensor:
    return torch.arange(np.prod(shape, dtype=int), dtype=torch.float32).reshape(shape)


def plain(tensor: torch.Tensor) -> bytes:
    octets: bytes = tensor.numpy().astype("<f4").tobytes()
    return octets


@pytest.mark.parametrize("name", ["bigscience/bloom-560m", "/srv/models/größe"])
def test_a_model_is_named_by_the_keccak_of_its_name(name: str) -> None:
    assert model_digest(name) == keccak(text=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sent", [torch.float32, torch.float16, torch.bfloat16])
def test_a_message_is_hashed_in_the_dtype_of_the_blocks(sent: torch.dtype, dtype: torch.dtype) -> None:
    tensor = torch.randn(2, 3, 5).to(sent)
    expected = tensor.to(dtype).view(torch.int16 if dtype.itemsize == 2 else torch.int32).numpy()
    hashed = little_endian_bytes(serialize_torch_tensor(tensor), dtype)
    assert bytes(hashed) == expected.astype(f"<i{dtype.itemsize}").tobytes()


def test_a_compressed_message_is_hashed_as_its_receiver_reads_it() -> None:
    tensor = torch.randn(1, 4, 8)
    message = serialize_torch_tensor(tensor, runtime_pb2.CompressionType.FLOAT16)
    assert bytes(little_endian_bytes(message, torch.float32)) == plain(tensor.half().float())


def test_a_tensor_that_is_not_contiguous_is_hashed_row_by_row() -> None:
    tensor = values(4, 3, 2).transpose(0, 2)
    assert bytes(little_endian_bytes(tensor, torch.float32)) == plain(tensor.contiguous())


def test_the_hidden_states_are_found_where_the_client_packed_them() -> None:
    hidden, prompts = values(1, 2, 4), values(3, 1)
    tensors, structure = pack_args_kwargs(hidden, None, prompts, flag=True)
    (found,) = hidden_states(tensors, structure, 1)
    assert torch.equal(found, hidden)
    assert hidden_states([hidden, prompts], None, 1)[0] is hidden


lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(lengths, st.integers(1, 2))
def test_a_request_is_hashed_over_its_steps_in_their_order(steps: list[int], tensors: int) -> None:
    async def serve(directory: Path) -> tuple[bytes, bytes]:
        one = prover(directory)
        digest = one.begin()
        sent = received = b""
        for number, length in enumerate(steps, 1):
            # Beyond 64 KiB from 17 tokens on, where another thread hashes.
            inputs: list[Passing] = [torch.randn(1, length, 1024) for _ in range(tensors)]
            output = torch.randn(1, length, 1024)
            digest.take_input(inputs)
            await digest.take_output([serialize_torch_tensor(output)])
            digest.keep(number, length)
            sent += b"".join(plain(tensor) for tensor in inputs)
            received += plain(output)
        digest.end()
        one.close()
        return sent, received

    with TemporaryDirectory() as directory:
        sent, received = asyncio.run(serve(Path(directory)))
        expected = ServedRequest(1, len(steps), sum(steps), keccak(sent), keccak(received), ended=True)
        assert told(Path(directory)) == [expected]


def served(one: Prover, counted: int) -> None:
    async def serve() -> None:
        digest: Any = one.begin()
        digest.take_input([values(1, 1, 4)])
        await digest.take_output([values(1, 1, 4)])
        digest.keep(counted, 1)
        digest.end()

    asyncio.run(serve())


def test_requests_are_served_without_proofs_while_none_can_be_kept_and_that_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    one = prover(tmp_path, clock, slots=1, segments=1)
    for counted in (1, 2, 3):
        served(one, counted)
    assert [request.counted for request in told(tmp_path)] == [1]
    assert len(caplog.records) == 1
    (full,) = segments(tmp_path)
    full.path.unlink()
    served(one, 4)
    assert told(tmp_path) == []
    clock.now = 1.0
    served(one, 5)
    assert [request.counted for request in told(tmp_path)] == [5]
    assert "3 requests have none" in caplog.records[-1].getMessage()


def test_a_request_that_began_without_a_proof_stays_without(tmp_path: Path) -> None:
    clock = Clock()
    one = prover(tmp_path, clock, slots=1, segments=1)
    served(one, 1)

    async def serve() -> None:
        digest = one.begin()
        for counted in (2, 3):
            digest.take_input([values(1, 1, 4)])
            await digest.take_output([values(1, 1, 4)])
            digest.keep(counted, 1)
            for segment in segments(tmp_path):
                segment.path.unlink()
            clock.now += 1.0
        digest.end()

    asyncio.run(serve())
    assert told(tmp_path) == []
