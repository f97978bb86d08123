"""Time and chance, as one value that a test can replace."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the chain's side gets time and chance from.

    Attributes:
        monotonic: seconds, for waiting times.
        clock: seconds since the epoch, for records and for comparison with blocks.
        sleep: waits that many seconds.
        chance: a number from 0 to 1, anew at each call.
    """

    monotonic: Callable[[], float] = time.monotonic
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: Callable[[], float] = random.random

    def backoff_s(self, failures: int, first_s: float, longest_s: float) -> float:
        """Return how long to wait after so many failures in a row, from 0: doubling, with half of it left to chance."""
        return min(longest_s, first_s * float(1 << min(failures, 16))) * (0.5 + self.chance() / 2)
