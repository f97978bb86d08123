"""A transformer block as data: the weights and shapes from which `eager` and `kernel` compute it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from plumised.petals.fast.positions import Alibi, Rotary


GROUP: Final = 64
"""Inputs whose quantized weights share a scale; as native/matrix.h has it."""


class Activation(Enum):
    """What stands between the two linear layers of a block's MLP."""

    GATED_SILU = "gated-silu"
    """silu of the first half of the rows, times the second half."""
    GELU_TANH = "gelu-tanh"
    """As BLOOM computes it: by a tanh, with sqrt(2 / pi) rounded to 0.79788456."""
    GELU = "gelu"


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A normalisation over the hidden dimension.

    Attributes:
        weight: [hidden].
        bias: [hidden]; None for RMS normalisation, which has no mean either.
        eps: added to the variance.
    """

    weight: Tensor
    bias: Tensor | None
    eps: float


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A linear layer.

    Attributes:
        weight: [outputs, inputs], contiguous; of the block's type, or of a narrower one that holds the same numbers.
            Quantized: int8, or uint8 [outputs, inputs / 2] with the numbers of 32 inputs in 16 bytes, of the first 16
            in the lower halves.
        bias: [outputs], or None.
        bias_apart: whether the bias is added to the rounded product, as Falcon does it.
        scales: of quantized weights, [outputs, inputs / 64].
    """

    weight: Tensor
    bias: Tensor | None
    bias_apart: bool = False
    scales: Tensor | None = None

    @property
    def inputs(self) -> int:
        """How many values the layer takes."""
        return int(self.weight.shape[1]) if self.scales is None else int(self.scales.shape[1]) * GROUP


@dataclass(frozen=True, slots=True, eq=False)
class FusedBlock:
    """One block. Its projections all have weights of one type.

    Attributes:
        heads: of the queries; a multiple of `kv_heads`.
        kv_heads: of the keys and values.
        head_dim: values of a head.
        grouped: rows of `qkv` are, for each key-value head, its queries, key and value; otherwise all queries, all
            keys, all values.
        attention_norm: before the attention.
        mlp_norm: before the MLP.
        qkv: queries, keys and values.
        out: after the attention.
        up: into the MLP; with `GATED_SILU` the rows of the gate come first.
        down: out of the MLP.
        activation: of the MLP.
        parallel: attention and MLP start from the same hidden states.
        positions: how a position enters the attention.
    """

    heads: int
    kv_heads: int
    head_dim: int
    grouped: bool
    attention_norm: Norm
    mlp_norm: Norm
    qkv: Linear
    out: Linear
    up: Linear
    down: Linear
    activation: Activation
    parallel: bool
    positions: Rotary | Alibi

    @property
    def dtype(self) -> torch.dtype:
        """The type of hidden states and cache, in which the block computes."""
        return self.attention_norm.weight.dtype
