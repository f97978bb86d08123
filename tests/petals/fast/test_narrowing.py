"""Weights that fit into half the memory are kept there, and nothing that is computed with them changes by a bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumised.petals.fast import eager
from plumised.petals.fast.fusing import fuse
from plumised.petals.fast.kernel import Kernel, KernelSpan
from plumised.petals.fast.narrowing import HALVES, narrow
from tests.petals.fast.random_blocks import FAMILIES, Shape, config_of, empty_cache, make_block, shapes

if TYPE_CHECKING:
    from plumised.petals.fast.blocks import FusedBlock

LLAMA = Shape("llama", heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=True)


def published_block(shape: Shape, published: torch.dtype, seed: int = 0) -> Any:
    """A block in float32 of a checkpoint in a half precision."""
    block = make_block(shape, seed=seed, published=published)
    if published == torch.bfloat16:
        # Most of its numbers are in float16's range, where they are numbers of float16 too.
        for parameter in block.parameters():
            parameter.view(-1)[0] = 2.0**-40
    return block


def wide_and_narrow(shape: Shape, published: torch.dtype, seed: int = 0) -> tuple[FusedBlock, FusedBlock]:
    """The same block of a checkpoint in a half precision, with weights as they are loaded, and narrowed."""
    loaded, block = (published_block(shape, published, seed) for _ in range(2))
    wide, fused = fuse(loaded), fuse(block)
    assert wide is not None
    assert fused is not None
    return wide, narrow(fused, block)


def weights(block: FusedBlock) -> list[torch.Tensor]:
    return [linear.weight for linear in (block.qkv, block.out, block.up, block.down)]


@pytest.mark.parametrize("published", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_in_a_half_precision_is_kept_in_it(family: str, published: torch.dtype) -> None:
    shape = Shape(family, heads=4, kv_heads=4 if family == "bloom" else 2, head_dim=8, intermediate=50, bias=True)
    wide, narrowed = wide_and_narrow(shape, published)
    assert {weight.dtype for weight in weights(narrowed)} == {published}
    assert narrowed.dtype == torch.float32
    for kept, loaded in zip(weights(narrowed), weights(wide), strict=True):
        assert torch.equal(kept.float(), loaded)


@pytest.mark.parametrize("published", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_block_s_own_layers_compute_the_same_from_the_same_memory(family: str, published: torch.dtype) -> None:
    shape = Shape(family, heads=4, kv_heads=4 if family == "bloom" else 2, head_dim=8, intermediate=50, bias=True)
    block = published_block(shape, published)
    hidden = torch.randn(1, 7, config_of(shape).hidden_size, requires_grad=True)
    wanted, wanted_gradient = forward_and_gradient(block, hidden)
    fused = fuse(block)
    assert fused is not None
    narrowed = narrow(fused, block)
    result, gradient = forward_and_gradient(block, hidden)
    assert torch.equal(result, wanted)
    assert torch.equal(gradient, wanted_gradient)
    memory = {weight.untyped_storage().data_ptr() for weight in weights(narrowed)}
    matrices = [parameter for parameter in block.parameters() if parameter.dim() == 2]
    assert {parameter.untyped_storage().data_ptr() for parameter in matrices} == memory


def forward_and_gradient(block: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    (result, *_) = block(hidden)
    (gradient,) = torch.autograd.grad(result.sum(), hidden)
    return result, gradient


@pytest.mark.parametrize("value", [1 + 2**-23, 1e-30, float("nan")], ids=["too fine", "too small", "no number"])
def test_one_weight_that_does_not_fit_keeps_the_block_as_it_is(value: float) -> None:
    block = make_block(LLAMA, published=torch.float16)
    block.mlp.down_proj.weight[3, 5] = value
    fused = fuse(block)
    assert fused is not None
    assert narrow(fused, block) is fused
    assert block.self_attn.q_proj.weight.dtype == torch.float32


def test_a_block_that_computes_in_bfloat16_is_left_as_it_is() -> None:
    block = make_block(LLAMA, torch.bfloat16)
    fused = fuse(block)
    assert fused is not None
    assert narrow(fused, block) is fused


@given(
    shape=shapes(),
    published=st.sampled_from(HALVES),
    batch=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_kernel_and_torch_give_the_same_to_the_bit(
    kernel: Kernel, shape: Shape, published: torch.dtype, batch: int, lengths: list[int], seed: int
) -> None:
    wide, narrowed = wide_and_narrow(shape, published, seed)
    hidden = torch.randn(
        batch, sum(lengths), config_of(shape).hidden_size, generator=torch.Generator().manual_seed(seed)
    )
    caches = [empty_cache(config_of(shape), batch, sum(lengths) + 3, torch.float32) for _ in range(4)]
    prefix = 0
    for length in lengths:
        chunk = hidden[:, prefix : prefix + length]
        with torch.inference_mode():
            by_torch = [eager.compute([b], chunk, [caches[i]], prefix) for i, b in enumerate((wide, narrowed))]
            by_kernel = [
                KernelSpan(kernel, [b]).compute(chunk, [caches[i]], prefix) for i, b in enumerate((wide, narrowed), 2)
            ]
        assert torch.equal(*by_torch)
        assert torch.equal(*by_kernel)
        prefix += length
    for one, other in ((0, 1), (2, 3)):
        assert all(torch.equal(a, b) for a, b in zip(caches[one], caches[other], strict=True))
