"""What is computed here is what Petals' own blocks compute, in outputs and in the attention cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumised.petals.fast import eager
from plumised.petals.fast.fusing import fuse
from tests.petals.fast.random_blocks import FAMILIES, Shape, config_of, empty_cache, make_block, shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plumised.petals.fast.blocks import FusedBlock


def assert_close(actual: torch.Tensor, wanted: torch.Tensor) -> None:
    # Float32 sums of a few hundred terms of size 1, in another order.
    torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def fused(block: Any) -> FusedBlock:
    result = fuse(block)
    assert result is not None
    return result


def petals_session(block: Any, config: Any, chunks: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], Any]:
    """Outputs of each chunk, and keys and values of the whole session, as Petals computes them."""
    # Petals' backend begins with an empty past; without any, its Llama takes a single sequence only.
    past = tuple(cache.flatten(0, 1) for cache in empty_cache(config, len(chunks[0]), 0, torch.float32))
    outputs = []
    with torch.inference_mode():
        for chunk in chunks:
            output, past = block(chunk, layer_past=past, use_cache=True)
            outputs.append(output)
    return outputs, past


def chunks_of(total: torch.Tensor, lengths: Sequence[int]) -> list[torch.Tensor]:
    return list(torch.split(total, list(lengths), dim=1))


@given(
    shape=shapes(),
    batch=st.integers(1, 4),
    lengths=st.lists(st.one_of(st.just(1), st.integers(1, 40)), min_size=1, max_size=6),
    room=st.integers(0, 20),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=150, deadline=None)
def test_a_session_gives_what_petals_gives(shape: Shape, batch: int, lengths: list[int], room: int, seed: int) -> None:
    block = make_block(shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    config = config_of(shape)
    hidden = torch.randn(batch, sum(lengths), config.hidden_size, generator=generator)
    chunks = chunks_of(hidden, lengths)
    expected, (past_keys, past_values) = petals_session(block, config, chunks)

    keys, values = empty_cache(config, batch, sum(lengths) + room, torch.float32)
    fused_block, prefix = fused(block), 0
    with torch.inference_mode():
        for chunk, wanted in zip(chunks, expected, strict=True):
            before = chunk.clone()
            output = eager.compute([fused_block], chunk, [(keys, values)], prefix)
            assert_close(output, wanted)
            assert torch.equal(chunk, before)
            prefix += chunk.shape[1]
    assert_close(keys.flatten(0, 1)[..., :prefix], past_keys)
    assert_close(values.flatten(0, 1)[:, :prefix], past_values)
    assert not keys[..., prefix:].any()
    assert not values[:, :, prefix:].any()


@pytest.mark.parametrize("lengths", [[7], [5, 1, 1, 1], [4, 3]])
def test_bloom_gives_petals_results_to_the_bit(lengths: list[int]) -> None:
    shape = Shape("bloom", heads=4, kv_heads=4, head_dim=16, intermediate=0, bias=True)
    block, config = make_block(shape), config_of(shape)
    chunks = chunks_of(torch.randn(2, sum(lengths), config.hidden_size), lengths)
    expected, _ = petals_session(block, config, chunks)
    cache, prefix = empty_cache(config, 2, sum(lengths), torch.float32), 0
    with torch.inference_mode():
        for chunk, wanted in zip(chunks, expected, strict=True):
            assert torch.equal(eager.compute([fused(block)], chunk, [cache], prefix), wanted)
            prefix += chunk.shape[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fused_block_still_computes_what_it_did(family: str) -> None:
    block = make_block(Shape(family, heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=True))
    hidden = torch.randn(2, 5, 32)
    with torch.inference_mode():
        (before,) = block(hidden)
        fused(block)
        (after,) = block(hidden)
    assert torch.equal(before, after)


@pytest.mark.parametrize("family", FAMILIES)
def test_fusing_holds_no_weight_twice(family: str) -> None:
    block = make_block(Shape(family, heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=False))
    result = fused(block)
    own = {parameter.untyped_storage().data_ptr() for parameter in block.parameters() if parameter.dim() == 2}
    taken = {linear.weight.untyped_storage().data_ptr() for linear in (result.qkv, result.out, result.up, result.down)}
    assert own == taken


def test_blocks_of_a_model_share_the_tables_of_the_rotation_and_others_do_not() -> None:
    def tables(block: Any) -> list[int]:
        fused(block)
        return [getattr(block.self_attn.rotary_emb, name).data_ptr() for name in ("cos_cached", "sin_cached")]

    blocks = [
        llama(seed=1),
        llama(seed=2),
        llama(rope_theta=500.0),
        llama(rope_scaling={"type": "linear", "factor": 2.0}),
    ]
    first, second, other_base, scaled = map(tables, blocks)
    assert first == second
    assert len({*first, *other_base, *scaled}) == 6


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_as_close_to_float32_as_petals_is(family: str) -> None:
    shape = Shape(family, heads=4, kv_heads=2, head_dim=16, intermediate=100, bias=True)
    block = make_block(shape, torch.bfloat16)
    exact = make_block(shape, torch.bfloat16).float()
    hidden = torch.randn(2, 12, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.inference_mode():
        (wanted,) = exact(hidden.float())
        (petals,) = block(hidden)
        cache = empty_cache(config_of(shape), 2, 12, torch.bfloat16)
        ours = eager.compute([fused(block)], hidden, [cache], 0)
    assert (ours.float() - wanted).norm() <= 1.2 * (petals.float() - wanted).norm()


def llama(**changes: Any) -> Any:
    return make_block(Shape("llama", heads=2, kv_heads=1, head_dim=8, intermediate=20, bias=False), **changes)


def falcon(**changes: Any) -> Any:
    return make_block(Shape("falcon", heads=2, kv_heads=2, head_dim=8, intermediate=20, bias=False), **changes)


def bloom(**changes: Any) -> Any:
    return make_block(Shape("bloom", heads=2, kv_heads=2, head_dim=8, intermediate=20, bias=False), **changes)


def with_adapter() -> Any:
    block = llama()
    block.mlp.up_proj = type("LoraLinear", (torch.nn.Linear,), {})(16, 20, bias=False)
    return block


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda: llama(rope_scaling={"type": "dynamic", "factor": 2.0}), id="dynamic rotary embedding"),
        pytest.param(lambda: llama(hidden_act="gelu"), id="another activation"),
        pytest.param(lambda: llama(dtype=torch.float16), id="float16"),
        pytest.param(lambda: llama().to("meta"), id="another device"),
        pytest.param(with_adapter, id="another kind of linear layer"),
        pytest.param(lambda: bloom(apply_residual_connection_post_layernorm=True), id="residual after the norm"),
        pytest.param(lambda: bloom(hidden_dropout=0.1), id="dropout"),
        pytest.param(lambda: bloom(attention_dropout=0.1), id="dropout of the attention"),
        pytest.param(lambda: bloom(pretraining_tp=2, slow_but_exact=True), id="slow but exact"),
        pytest.param(lambda: falcon(new_decoder_architecture=False, multi_query=False), id="old falcon"),
        pytest.param(lambda: falcon(alibi=True), id="falcon with alibi"),
        pytest.param(lambda: torch.nn.Linear(3, 3), id="no block at all"),
    ],
)
def test_what_is_not_covered_is_left_alone(block: Any) -> None:
    made = block()
    before = {name: parameter.data_ptr() for name, parameter in made.named_parameters()}
    assert fuse(made) is None
    assert {name: parameter.data_ptr() for name, parameter in made.named_parameters()} == before


def test_linearly_scaled_rotary_embeddings_are_covered() -> None:
    block = llama(rope_scaling={"type": "linear", "factor": 4.0})
    hidden = torch.randn(1, 30, 16)
    with torch.inference_mode():
        (wanted,) = block(hidden)
        cache = empty_cache(block.self_attn.config, 1, 30, torch.float32)
        ours = eager.compute([fused(block)], hidden, [cache], 0)
    assert_close(ours, wanted)


def test_positions_beyond_the_model_s_own_and_the_tables_first_length_are_right() -> None:
    block = llama()
    hidden = torch.randn(1, 1100, 16)
    with torch.inference_mode():
        (wanted,) = block(hidden)
        cache = empty_cache(block.self_attn.config, 1, 1100, torch.float32)
        first = eager.compute([fused(block)], hidden[:, :1000], [cache], 0)
        rest = eager.compute([fused(block)], hidden[:, 1000:], [cache], 1000)
    assert_close(torch.cat([first, rest], 1), wanted)
