"""Which of the waiting steps are computed next; a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Waiting:
    """A step that waits to be computed in one pass over the weights.

    Attributes:
        span: whose weights; steps of the same span go together.
        rows: batch size times sequence length.
    """

    span: object
    rows: int


def next_together(waiting: Sequence[Waiting], most_rows: int) -> list[int]:
    """The positions of the steps that are computed together next, in order: the oldest, and what fits beside it.

    The oldest is always among them, and a session has one step at a time: so a step waits for no more passes than
    there are steps before it, however many sessions there are.

    Args:
        waiting: oldest first, none of more rows than `most_rows`.
        most_rows: of one pass.
    """
    chosen: list[int] = []
    room = most_rows
    for position, step in enumerate(waiting):
        if step.rows <= room and step.span is waiting[0].span:
            chosen.append(position)
            room -= step.rows
            if not room:
                break
    return chosen
