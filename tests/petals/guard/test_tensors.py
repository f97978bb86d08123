"""Tensors that hivemind makes pass, and no other."""

from __future__ import annotations

import pytest
import torch
from hivemind import serialize_torch_tensor
from hivemind.proto import runtime_pb2
from hypothesis import given
from hypothesis import strategies as st

from plumised.petals.guard import tensors
from plumised.petals.guard.refusal import Refusal
from plumised.petals.guard.tensors import whole

MOST = 10**6
FLOATING = [torch.float32, torch.float16, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("name", runtime_pb2.CompressionType.keys())
def test_the_numbers_of_compressions_are_those_of_hivemind(name: str) -> None:
    assert getattr(tensors, name) == runtime_pb2.CompressionType.Value(name)


def compressed(tensor: torch.Tensor, compression: str) -> runtime_pb2.Tensor:
    return serialize_torch_tensor(tensor, runtime_pb2.CompressionType.Value(compression))


@given(
    st.sampled_from(FLOATING),
    st.sampled_from(["NONE", "FLOAT16", "MEANSTD_16BIT", "QUANTILE_8BIT", "UNIFORM_8BIT"]),
    st.tuples(*[st.integers(1, 5)] * 3),
)
def test_what_hivemind_makes_passes_and_with_a_byte_more_or_less_it_does_not(
    dtype: torch.dtype, compression: str, size: tuple[int, int, int]
) -> None:
    values = torch.arange(0.0, float(torch.Size(size).numel())).reshape(size)
    try:
        message = compressed(values.to(dtype), compression)
    except (TypeError, ValueError):
        # It has no such form; see hivemind's own checks.
        assert dtype is not torch.float32
        return
    assert whole(message, MOST).size == size
    for wrong in (message.buffer + b"\0", message.buffer[:-1]):
        with pytest.raises(Refusal):
            whole(
                runtime_pb2.Tensor(size=size, dtype=message.dtype, compression=message.compression, buffer=wrong), MOST
            )


@pytest.mark.parametrize("values", [1, 4096, 4097, 10_000])
def test_blocks_need_a_scale_each(values: int) -> None:
    scales = -(-values // 4096)
    buffer = b"".join(
        (scales.to_bytes(8, "little"), (256).to_bytes(8, "little"), bytes(4 * scales), bytes(4 * 256), bytes(values))
    )
    message = {"size": [1, 1, values], "dtype": "float32", "compression": tensors.BLOCKWISE_8BIT}
    assert whole(runtime_pb2.Tensor(**message, buffer=buffer), MOST).size == (1, 1, values)
    fewer = (scales - 1).to_bytes(8, "little") + buffer[8:]
    with pytest.raises(Refusal, match="a table of"):
        whole(runtime_pb2.Tensor(**message, buffer=fewer), MOST)


def test_what_stands_for_nothing_passes() -> None:
    for empty in (torch.empty(0), torch.empty(0, dtype=torch.int64)):
        assert whole(serialize_torch_tensor(empty), MOST).empty


def test_a_tensor_may_have_so_many_values_and_no_more() -> None:
    message = serialize_torch_tensor(torch.zeros(2, 5))
    assert whole(message, 10).size == (2, 5)
    with pytest.raises(Refusal, match="10 values where 9 are the most"):
        whole(message, 9)


@given(
    st.builds(
        runtime_pb2.Tensor,
        size=st.lists(st.integers(0, 2**32 - 1), max_size=6),
        dtype=st.sampled_from(["float32", "int64", "bfloat16", "object", "S9999", ""]) | st.text(max_size=8),
        compression=st.integers(0, 9),
        buffer=st.binary(max_size=64),
    )
)
def test_whatever_comes_is_a_shape_or_a_refusal(message: runtime_pb2.Tensor) -> None:
    try:
        shape = whole(message, MOST)
    except Refusal:
        return
    assert len(message.buffer) in shape.buffer_bytes
