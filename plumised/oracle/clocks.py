"""The machine's clock against the Oracle's, which tells its own in the Date header of every answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.oracle.answers import time_of
from plumised.oracle.client import Answer, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

_GREATEST_STEP_S = 2.0
"""A slewed clock drifts from the monotonic one by less than this between two reports; a set one jumps."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time, and how far it can be trusted.

    Attributes:
        wall: seconds since the epoch, by this machine.
        proven: whether the wall clock was compared with the Oracle's, and has not been set since.
        skew_s: how far the wall clock was ahead of the Oracle's then; 0.0 where the Oracle did not say.
    """

    wall: float
    proven: bool
    skew_s: float

    def oracle_now(self, server_time: float | None) -> float:
        """The Oracle's time, by its own word where it gave it."""
        return self.wall if server_time is None else server_time


def skew(started: float, arrived: float, server_time: float) -> float:
    """Seconds that this clock is ahead of the server's (negative: behind), allowing for whole seconds and the way.

    Args:
        started: wall clock when the request was started.
        arrived: wall clock when its answer had arrived.
        server_time: the Date header, in whole seconds, from some moment between the two.
    """
    if server_time + 1 < started:
        return started - server_time
    if server_time > arrived:
        return arrived - server_time
    return 0.0


class ClockComparison:
    """What answers have shown of the two clocks."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        """Set up.

        Args:
            clock: wall clock, seconds since the epoch.
            monotonic: seconds that no clock setting moves.
        """
        self._clock = clock
        self._monotonic = monotonic
        self._offset: float | None = None
        self._skew_s: float | None = None

    @property
    def skew_s(self) -> float | None:
        """How far the wall clock is ahead of the Oracle's, or None where that is not known."""
        return self._skew_s

    def learn(self, started: float, reply: Reply) -> None:
        """Compare with an answer that has just arrived. Silence teaches nothing.

        Args:
            started: wall clock when the request was started.
            reply: to it.
        """
        if not isinstance(reply, Answer):
            return
        arrived, server_time = self._clock(), time_of(reply)
        self._offset = arrived - self._monotonic()
        self._skew_s = None if server_time is None else skew(started, arrived, server_time)

    def now(self) -> Clocks:
        """The time and its trust."""
        wall = self._clock()
        step = None if self._offset is None else abs(wall - self._monotonic() - self._offset)
        return Clocks(wall, proven=step is not None and step < _GREATEST_STEP_S, skew_s=self._skew_s or 0.0)
