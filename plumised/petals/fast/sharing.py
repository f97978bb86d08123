"""Has the layers of a loaded block keep their weights in another form, of which a fused block has the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.utils import parametrize

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.petals.fast.blocks import Linear


def share(block: torch.nn.Module, wide: Linear, kept: Linear, widened: Callable[[slice], torch.nn.Module]) -> None:
    """Have the layers whose weights are rows of a fused one use the same rows of another form of it.

    Args:
        block: has the layers.
        wide: what `fusing` has made of them.
        kept: the same in another form.
        widened: makes a module that turns some rows of that form to what a layer computes with, whenever it is asked.
    """
    begin, row = wide.weight.data_ptr(), wide.weight.stride(0) * wide.weight.element_size()
    for module in list(block.modules()):
        if isinstance(module, torch.nn.Linear) and begin <= module.weight.data_ptr() < begin + wide.weight.nbytes:
            first = (module.weight.data_ptr() - begin) // row
            rows = slice(first, first + len(module.weight))
            module.weight = torch.nn.Parameter(kept.weight[rows], requires_grad=False)
            # "Unsafe" is that type and shape change.
            parametrize.register_parametrization(module, "weight", widened(rows), unsafe=True)
