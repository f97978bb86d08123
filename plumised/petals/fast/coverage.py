"""Which steps are computed here, and how; a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Path(Enum):
    """Who computes a step."""

    PETALS = "petals"
    EAGER = "eager"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class Request:
    """One inference step, as far as it matters who computes it.

    Attributes:
        batch: sequences side by side.
        rows: batch size times sequence length.
        columns: of a row, the hidden size.
        fused: every block of the step is one that `fusing.fuse` takes.
        fits: hidden states and caches have the shapes and types that the blocks take.
        native: there is a kernel for this machine.
        half: the weights are in a half precision.
        prompts: prompts are added to the hidden states between blocks.
        reorders: the cache is reordered first, as beam search does.
        adapter: an adapter is active.
    """

    batch: int
    rows: int
    columns: int
    fused: bool
    fits: bool
    native: bool
    half: bool
    prompts: bool
    reorders: bool
    adapter: bool


KERNEL_ROWS: Final = 16
"""Rows that the kernel computes in one pass over the weights."""
LARGEST_FOR_KERNEL: Final = 2**20
"""Rows times columns beyond which torch's matrix products in float32 are as fast. Measured: the kernel takes half of
their time for 1000 rows of 576 columns, and as long for 256 of 4096."""
LARGEST_IN_HALF: Final = 2**15
"""Rows times columns beyond which it is so in bfloat16, for which torch has a processor's own instructions. Measured:
as long for 100 rows of 576 columns, 16 of 2048 and 8 of 4096. A single pass the kernel takes in any case."""


def covers(request: Request) -> bool:
    """Whether the step is computed here. What is not, Petals computes."""
    plain = not (request.prompts or request.reorders or request.adapter)
    return request.rows > 0 and request.fused and request.fits and plain


def choose(request: Request) -> Path:
    """Who computes the step."""
    if not covers(request):
        return Path.PETALS
    largest = LARGEST_IN_HALF if request.half else LARGEST_FOR_KERNEL
    small = request.rows <= KERNEL_ROWS or request.rows * request.columns <= largest
    return Path.KERNEL if request.native and small and request.batch <= KERNEL_ROWS else Path.EAGER
