"""Weights in 8 or 4 bits, in groups of 64 inputs that share a scale: less memory, more tokens, other numbers.

Both are symmetric around zero and know no calibration: int8 rounds to 1/127 of a group's largest weight, nf4 to one of
the 16 numbers of QLoRA's NormalFloat (arXiv:2305.14314), times the group's largest weight. What that does to a model's
answers is in docs/performance.md.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Final

import torch

from plumised.petals.fast.blocks import GROUP
from plumised.petals.fast.sharing import share

if TYPE_CHECKING:
    from plumised.petals.fast.blocks import FusedBlock, Linear

_NORMAL_FLOAT: Final = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)


class Kind(Enum):
    """How weights are quantized; the values are those of `engine.quantization`."""

    INT8 = "int8"
    NF4 = "nf4"


def quantizes(fused: FusedBlock) -> bool:
    """Whether the block's projections have whole groups."""
    return not any(linear.inputs % GROUP for linear in (fused.qkv, fused.out, fused.up, fused.down))


def quantize(fused: FusedBlock, block: torch.nn.Module, kind: Kind) -> FusedBlock:
    """The fused block with quantized weights, which the block's own layers widen whenever they compute.

    Args:
        fused: made by `fusing.fuse` of the block; one that `quantizes`.
        block: its layers get the same quantized weights.
        kind: how.
    """
    with torch.no_grad():
        wide = (fused.qkv, fused.out, fused.up, fused.down)
        kept = [quantized(linear, kind) for linear in wide]
        for one, other in zip(wide, kept, strict=True):
            share(block, one, other, functools.partial(_Widened, other, fused.dtype))
        qkv, out, up, down = kept
        return replace(fused, qkv=qkv, out=out, up=up, down=down)


class _Widened(torch.nn.Module):
    """What a layer's weight is, of what it is kept as."""

    def __init__(self, linear: Linear, dtype: torch.dtype, rows: slice) -> None:
        super().__init__()
        self._scales = None if linear.scales is None else linear.scales[rows]
        self._dtype = dtype

    def forward(self, kept: torch.Tensor) -> torch.Tensor:
        return widen(kept, self._scales).to(self._dtype)


def widen(weight: torch.Tensor, scales: torch.Tensor | None) -> torch.Tensor:
    """Weights [outputs, inputs] of what they are kept as, float32 where they are quantized.

    Args:
        weight: as `Linear.weight`.
        scales: as `Linear.scales`.
    """
    if scales is None:
        return weight
    if weight.dtype == torch.int8:
        numbers = weight.float()
    else:
        halves = weight.view(len(weight), -1, 1, 16)
        numbers = _NORMAL_FLOAT[torch.cat((halves & 15, halves >> 4), dim=2).long()]
    return (numbers.view(*scales.shape, GROUP) * scales[..., None]).view(len(weight), -1)


def quantized(linear: Linear, kind: Kind) -> Linear:
    """The layer with quantized weights.

    Args:
        linear: of whole groups of inputs.
        kind: how.
    """
    groups = linear.weight.float().view(len(linear.weight), -1, GROUP)
    largest = groups.abs().amax(dim=2)
    # A group of zeros.
    largest[largest == 0] = 1
    if kind is Kind.INT8:
        scales = largest / 127
        codes = (groups / scales[..., None]).round_().clamp_(-127, 127).to(torch.int8).view(len(groups), -1)
    else:
        scales = largest
        borders = (_NORMAL_FLOAT[1:] + _NORMAL_FLOAT[:-1]) / 2
        numbers = torch.bucketize(groups / scales[..., None], borders).to(torch.uint8)
        lower, upper = numbers.view(len(groups), -1, 2, 16).unbind(dim=2)
        codes = (lower | upper << 4).reshape(len(groups), -1)
    return replace(linear, weight=codes.contiguous(), scales=scales.contiguous())
