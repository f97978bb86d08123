"""One step through a span of blocks in torch: the reference for `kernel`, and what long steps are computed with.

The attention cache is Petals': for each block keys [batch, kv_heads, head_dim, capacity] and values
[batch, kv_heads, capacity, head_dim]; a step writes its own positions in place. In float32 the operations are those of
Petals' blocks, and in their order wherever that costs nothing: BLOOM's results are equal to the bit, the others'
differ where the queries of a group are one product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch.nn import functional

from plumised.petals.fast.blocks import Activation, FusedBlock, Linear, Norm
from plumised.petals.fast.parts import whole
from plumised.petals.fast.positions import Alibi, Rotary
from plumised.petals.fast.quantizing import widen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from plumised.petals.fast.parts import Parts

Cache = tuple["Tensor", "Tensor"]
"""Keys and values of one block."""

_GELU_TANH_SCALE: Final = 0.79788456
_GELU_TANH_CUBE: Final = 0.044715


def compute(blocks: Sequence[FusedBlock], hidden: Tensor, caches: Sequence[Cache], prefix: int) -> Tensor:
    """Hidden states after a span, and the step's keys and values in its caches.

    Args:
        blocks: of the span, in order; of one model.
        hidden: [batch, length, hidden], of the type of the weights; not changed.
        caches: of the same blocks, filled up to `prefix`, with room for `length` more.
        prefix: positions that earlier steps have filled.
    """
    return whole(parts(blocks, hidden, caches, prefix))


def parts(blocks: Sequence[FusedBlock], hidden: Tensor, caches: Sequence[Cache], prefix: int) -> Parts:
    """`compute`, a block at a time."""
    batch, length, _ = hidden.shape
    step = _prepare(blocks[0], batch, length, prefix, hidden.dtype)
    for number, (block, cache) in enumerate(zip(blocks, caches, strict=True)):
        if number:
            yield
        hidden = _block(block, hidden, cache, step)
    return hidden


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """What all blocks of a step share: the positions, and which keys are in the future of which query."""

    prefix: int
    total: int
    rotation: Cache | None
    biases: Tensor | None
    future: Tensor | None


def _prepare(block: FusedBlock, batch: int, length: int, prefix: int, dtype: torch.dtype) -> _Step:
    total = prefix + length
    rotation = biases = None
    match block.positions:
        case Rotary() as rotary:
            cos, sin = (table[prefix:total, None].to(dtype) for table in rotary.tables(total))
            rotation = cos, sin
        case Alibi() as alibi:
            biases = alibi.biases(total)[..., :total].to(dtype).repeat(batch, 1, 1)
    future = None
    if length > 1:
        future = torch.ones(length, total, dtype=torch.bool).triu_(prefix + 1)
    return _Step(prefix, total, rotation, biases, future)


def _block(block: FusedBlock, hidden: Tensor, cache: Cache, step: _Step) -> Tensor:
    attention = _linear(block.out, _attention(block, _norm(block.attention_norm, hidden), cache, step))
    if block.parallel:
        mlp = _mlp(block, _norm(block.mlp_norm, hidden))
        mlp += attention
        return hidden + mlp
    hidden = hidden + attention
    return hidden + _mlp(block, _norm(block.mlp_norm, hidden))


def _attention(block: FusedBlock, normed: Tensor, cache: Cache, step: _Step) -> Tensor:
    batch, length, _ = normed.shape
    group, dim = block.heads // block.kv_heads, block.head_dim
    query, key, value = _split(block, _linear(block.qkv, normed))
    if step.rotation is not None:
        query, key = _rotate(query, step.rotation), _rotate(key, step.rotation)
    keys, values = cache
    keys[..., step.prefix : step.total] = key.permute(0, 2, 3, 1)
    values[:, :, step.prefix : step.total] = value.transpose(1, 2)
    # The queries that share a key-value head are further rows of one product, so keys and values are not repeated.
    query = query.view(batch, length, block.kv_heads, group, dim).permute(0, 2, 3, 1, 4)
    query = query.reshape(batch * block.kv_heads, group * length, dim)
    scores = _scores(query, keys.flatten(0, 1)[..., : step.total], step.biases)
    if step.future is not None:
        scores.view(batch, block.kv_heads, group, length, step.total).masked_fill_(step.future, -math.inf)
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(normed.dtype)
    mixed = torch.bmm(weights, values.flatten(0, 1)[:, : step.total])
    mixed = mixed.view(batch, block.kv_heads, group, length, dim).permute(0, 3, 1, 2, 4)
    return mixed.reshape(batch, length, block.heads * dim)


def _split(block: FusedBlock, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, each [batch, length, its heads, head_dim]."""
    heads, kv_heads, dim = block.heads, block.kv_heads, block.head_dim
    if block.grouped:
        group = heads // kv_heads
        grouped = qkv.view(*qkv.shape[:-1], kv_heads, group + 2, dim)
        return grouped[..., :group, :].flatten(2, 3), grouped[..., group, :], grouped[..., group + 1, :]
    by_head = qkv.view(*qkv.shape[:-1], heads + 2 * kv_heads, dim)
    query, key, value = torch.split(by_head, [heads, kv_heads, kv_heads], dim=2)
    return query, key, value


def _rotate(states: Tensor, rotation: Cache) -> Tensor:
    cos, sin = rotation
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin


def _scores(query: Tensor, keys: Tensor, biases: Tensor | None) -> Tensor:
    scale = 1.0 / math.sqrt(query.shape[-1])
    if biases is None:
        return torch.bmm(query, keys).mul_(scale)
    return torch.baddbmm(biases, query, keys, alpha=scale)


def _mlp(block: FusedBlock, normed: Tensor) -> Tensor:
    states = _linear(block.up, normed)
    match block.activation:
        case Activation.GATED_SILU:
            gate, up = states.chunk(2, dim=-1)
            states = functional.silu(gate).mul_(up)
        case Activation.GELU_TANH:
            inner = torch.tanh(_GELU_TANH_SCALE * states * (1 + _GELU_TANH_CUBE * states * states))
            states = states * 0.5 * (1.0 + inner)
        case Activation.GELU:
            states = functional.gelu(states)
    return _linear(block.down, states)


def _linear(linear: Linear, states: Tensor) -> Tensor:
    weight = widen(linear.weight, linear.scales).to(states.dtype)
    if linear.bias_apart and linear.bias is not None:
        return functional.linear(states, weight) + linear.bias
    return functional.linear(states, weight, linear.bias)


def _norm(norm: Norm, states: Tensor) -> Tensor:
    if norm.bias is None:
        if states.dtype == torch.float32:
            return functional.rms_norm(states, states.shape[-1:], norm.weight, norm.eps)
        # Llama rounds between the normalisation and the weight.
        return norm.weight * functional.rms_norm(states.float(), states.shape[-1:], None, norm.eps).to(states.dtype)
    return functional.layer_norm(states, states.shape[-1:], norm.weight, norm.bias, norm.eps)
