"""Keeps weights in half the memory where that changes no number.

Most checkpoints are published in float16 or bfloat16. Served in float32, each weight still is one of those numbers:
kept as such and widened when it is used, it gives the same products from half the memory, and half the memory is what a
short step is computed in half the time for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch

from plumised.petals.fast.sharing import share

if TYPE_CHECKING:
    from plumised.petals.fast.blocks import FusedBlock

HALVES: Final = (torch.float16, torch.bfloat16)


def narrow(fused: FusedBlock, block: torch.nn.Module) -> FusedBlock:
    """The fused block with narrower weights of the same values, or as it is where one does not fit.

    Args:
        fused: made by `fusing.fuse` of the block.
        block: its projections get the same narrow weights, and widen them whenever they are asked for.
    """
    if fused.dtype != torch.float32:
        return fused
    projections = (fused.qkv, fused.out, fused.up, fused.down)
    with torch.no_grad():
        for half in HALVES:
            weights = [_exactly(linear.weight, half) for linear in projections]
            narrowed = [
                replace(linear, weight=weight)
                for linear, weight in zip(projections, weights, strict=True)
                if weight is not None
            ]
            if len(narrowed) == len(projections):
                for wide, kept in zip(projections, narrowed, strict=True):
                    share(block, wide, kept, lambda _: _Widened())
                qkv, out, up, down = narrowed
                return replace(fused, qkv=qkv, out=out, up=up, down=down)
    return fused


def _exactly(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor | None:
    """The same numbers in another type; None where it does not have them all."""
    narrowed = weight.to(dtype)
    return narrowed if torch.equal(narrowed.to(weight.dtype), weight) else None


class _Widened(torch.nn.Module):
    """What a layer's weight is, of what it is kept as."""

    def forward(self, kept: torch.Tensor) -> torch.Tensor:
        return kept.float()
