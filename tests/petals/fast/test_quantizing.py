"""Quantized weights are near the ones they stand for, and kernel, torch and the block's own layers take them alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumised.petals.failures import EngineError
from plumised.petals.fast import eager
from plumised.petals.fast.blocks import GROUP
from plumised.petals.fast.fusing import fuse
from plumised.petals.fast.kernel import Kernel, KernelSpan
from plumised.petals.fast.quantizing import Kind, quantize, quantizes, widen
from plumised.petals.fast.serving import fast_backend
from tests.petals.fast.random_blocks import FAMILIES, Shape, config_of, empty_cache, make_block
from tests.petals.fast.test_serving import backends_of

if TYPE_CHECKING:
    from plumised.petals.fast.blocks import FusedBlock

# Of a group's largest weight, the farthest that a weight is from the one that stands for it: half a step.
FARTHEST = {Kind.INT8: 0.5 / 127, Kind.NF4: (1 - 0.6961928009986877) / 2}


@st.composite
def whole_groups(draw: st.DrawFn) -> Shape:
    """A block whose projections take multiples of 64."""
    family, kv_heads = draw(st.sampled_from(FAMILIES)), draw(st.sampled_from([1, 2, 4]))
    return Shape(
        family=family,
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=64,
        intermediate=64 * draw(st.integers(1, 4)),
        bias=draw(st.booleans()),
    )


def quantized(shape: Shape, kind: Kind, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[FusedBlock, Any]:
    """A quantized block as data, and the block."""
    block = make_block(shape, dtype, seed)
    fused = fuse(block)
    assert fused is not None
    return quantize(fused, block, kind), block


LLAMA = Shape("llama", heads=2, kv_heads=1, head_dim=64, intermediate=192, bias=True)
kinds = pytest.mark.parametrize("kind", list(Kind))


@kinds
def test_each_weight_is_within_half_a_step_of_what_stands_for_it(kind: Kind) -> None:
    fused = fuse(make_block(LLAMA))
    assert fused is not None
    kept, _ = quantized(LLAMA, kind)
    for linear, original in (
        (kept.up, fused.up),
        (kept.down, fused.down),
        (kept.qkv, fused.qkv),
        (kept.out, fused.out),
    ):
        groups = original.weight.view(len(original.weight), -1, GROUP)
        error = (widen(linear.weight, linear.scales).view_as(groups) - groups).abs()
        assert (error <= groups.abs().amax(dim=2, keepdim=True) * (FARTHEST[kind] + 1e-6)).all()


@kinds
def test_it_takes_the_memory_that_it_promises(kind: Kind) -> None:
    kept, _ = quantized(LLAMA, kind)
    bits = {Kind.INT8: 8, Kind.NF4: 4}[kind] + 32 / GROUP
    assert kept.up.scales is not None
    assert 8 * (kept.up.weight.nbytes + kept.up.scales.nbytes) == bits * 384 * 128


@kinds
def test_a_group_of_zeros_stays_zero(kind: Kind) -> None:
    block = make_block(LLAMA)
    block.mlp.down_proj.weight[:, :GROUP] = 0
    fused = fuse(block)
    assert fused is not None
    down = quantize(fused, block, kind).down
    assert not widen(down.weight, down.scales)[:, :GROUP].any()


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_block_s_own_layers_compute_with_the_same_numbers(kind: Kind, dtype: torch.dtype) -> None:
    kept, block = quantized(LLAMA, kind, dtype)
    expected = widen(kept.qkv.weight, kept.qkv.scales).to(dtype)
    attention = block.self_attn
    own = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    assert torch.equal(own, expected)
    memory = {linear.weight.untyped_storage().data_ptr() for linear in (kept.qkv, kept.out, kept.up, kept.down)}
    assert memory == {p.untyped_storage().data_ptr() for p in block.parameters() if p.dim() == 2}


@given(
    shape=whole_groups(),
    kind=st.sampled_from(Kind),
    batch=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_kernel_differs_from_torch_by_rounding_only(
    kernel: Kernel, shape: Shape, kind: Kind, batch: int, lengths: list[int], seed: int
) -> None:
    kept, _ = quantized(shape, kind, seed=seed)
    size = config_of(shape).hidden_size
    hidden = torch.randn(batch, sum(lengths), size, generator=torch.Generator().manual_seed(seed))
    by_torch, by_kernel = (empty_cache(config_of(shape), batch, sum(lengths) + 3, torch.float32) for _ in range(2))
    prefix = 0
    for length in lengths:
        chunk = hidden[:, prefix : prefix + length]
        with torch.inference_mode():
            wanted = eager.compute([kept], chunk, [by_torch], prefix)
            result = KernelSpan(kernel, [kept]).compute(chunk, [by_kernel], prefix)
        torch.testing.assert_close(result, wanted, rtol=2e-4, atol=1e-4)
        prefix += length


def test_blocks_without_whole_groups_cannot_be_quantized() -> None:
    fused = fuse(make_block(Shape("llama", heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=False)))
    assert fused is not None
    assert not quantizes(fused)


@kinds
def test_a_model_that_cannot_be_quantized_is_refused_for_good(kind: Kind) -> None:
    shape = Shape("llama", heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=False)
    with pytest.raises(EngineError) as raised:
        backends_of(fast_backend(kind.value, native=True), shape)
    assert (raised.value.failure.code, raised.value.failure.permanent) == ("quantization-unsupported", True)
    assert kind.value in raised.value.failure.message
