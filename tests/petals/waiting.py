"""Waits for conditions, with a deadline that is generous because it only matters when something is broken."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

DEADLINE_S: Final = 60.0
_POLL_S: Final = 0.02


def eventually(
    probe: Callable[[], T | None],
    what: str,
    *,
    deadline_s: float = DEADLINE_S,
    explain: Callable[[], str] = lambda: "",
) -> T:
    """What `probe` returns, as soon as that is neither None nor false.

    Args:
        probe: asked again and again.
        what: is waited for, for the failure's message.
        deadline_s: when it counts as broken.
        explain: says more when it is.
    """
    until = time.monotonic() + deadline_s
    while not (value := probe()):
        if time.monotonic() >= until:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what}\n{explain()}")
        time.sleep(_POLL_S)
    return value
