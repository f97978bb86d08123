"""Computations that pause, so that others can be computed in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Generator

    from torch import Tensor

Parts: TypeAlias = "Generator[None, None, Tensor]"
"""Each `next` computes a part; the last one returns the hidden states."""


def whole(parts: Parts) -> Tensor:
    """All parts, without a pause."""
    while True:
        try:
            next(parts)
        except StopIteration as end:
            result: Tensor = end.value
            return result
