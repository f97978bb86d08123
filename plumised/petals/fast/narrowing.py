"""Keeps weights in half the memory where that changes no number.

Most checkpoints are published in float16 or bfloat16. Served in float32, each weight still is one of those numbers:
kept as such and widened when it is used, it gives the same products from half the memory, and half the memory is what a
short step is computed in half the time for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import torch
from torch.nn.utils import parametrize

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
                for wide, narrow_one in zip(projections, narrowed, strict=True):
                    _share(block, wide.weight, narrow_one.weight)
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


def _share(block: torch.nn.Module, wide: torch.Tensor, narrowed: torch.Tensor) -> None:
    """Have the layers whose weights are rows of a wide one use the same rows of the narrowed one."""
    begin, end = wide.data_ptr(), wide.data_ptr() + wide.nbytes
    for module in list(block.modules()):
        if isinstance(module, torch.nn.Linear) and begin <= module.weight.data_ptr() < end:
            first = (module.weight.data_ptr() - begin) // (wide.stride(0) * wide.element_size())
            rows = narrowed[first : first + len(module.weight)]
            module.weight = torch.nn.Parameter(rows, requires_grad=False)
            # "Unsafe" is that the type changes.
            parametrize.register_parametrization(module, "weight", _Widened(), unsafe=True)
