"""Whether a figure that was sampled for a long time is flat. Pure: points in, judgement out.

Two ways to grow are looked for, since a part of a node that is killed and started again begins anew:

- *within* a life: the slope through the points of each life, as the weighted median over all pairs of points of the
  same life, weighted by the time between them (Theil and Sen's estimator, with the long lives deciding), over the
  length of the longest life. That is what serving costs, and what a part keeps of faults that it survives.
- *between* lives: the slope through what each life uses at the same age, over the time from the first to the last
  life. That is what a death leaves behind for the next life.

Medians, because some points are taken in the middle of a fault. The first seconds of a life are left out: it warms up.
What falls, or swings without end, has grown by nothing or less.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, groupby
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LIVES_COMPARED: Final = 3
"""Fewer lives than these say nothing of what is left from one to the other."""
_POINTS_OF_A_LIFE: Final = 300
"""More than these are joined, since pairs are counted."""
_YOUNG_POINTS: Final = 3
"""As many of a life's first points tell what it uses when it is young."""


@dataclass(frozen=True)
class Point:
    """One sample of one figure.

    Attributes:
        at_s: when, in seconds.
        life: names the life of the part that was sampled; another one begins with each start of it.
        value: in any unit.
    """

    at_s: float
    life: str
    value: float


@dataclass(frozen=True)
class Bound:
    """How much a flat figure may have grown: `floor`, or the `share` of its level where that is more."""

    floor: float
    share: float

    def of(self, level: float) -> float:
        """The growth that is allowed to a figure of that level."""
        return max(self.floor, self.share * level)


@dataclass(frozen=True)
class Judgement:
    """What was found. All but `lives` in the unit of the figure.

    Attributes:
        level: the median.
        within: growth within the longest life; None where no life was long enough to tell.
        between: growth from the first life to the last; None where there were too few.
        allowed: growth of either kind that is still flat.
        lives: how many were long enough to be looked at.
    """

    level: float
    within: float | None
    between: float | None
    allowed: float
    lives: int

    @property
    def flat(self) -> bool:
        """Whether neither growth is more than allowed. What could not be judged is not called flat."""
        return self.within is not None and max(self.within, self.between or 0.0) <= self.allowed


def judged(points: Iterable[Point], settling_s: float, bound: Bound) -> Judgement:
    """Judge one figure.

    Args:
        points: the samples.
        settling_s: age up to which a life is not looked at.
        bound: what is flat.
    """
    lives = _settled(sorted(points, key=lambda point: point.at_s), settling_s)
    level = median(point.value for life in lives for point in life) if lives else 0.0
    return Judgement(level, _within(lives), _between(lives), bound.of(level), len(lives))


def _settled(points: Sequence[Point], settling_s: float) -> list[list[Point]]:
    """The points of each life that has several after it has settled, by life."""
    lives: dict[str, list[Point]] = {}
    for point in points:
        lives.setdefault(point.life, []).append(point)
    settled = ([point for point in life if point.at_s - life[0].at_s >= settling_s] for life in lives.values())
    return [life for life in settled if len(life) >= _YOUNG_POINTS]


def _within(lives: Sequence[Sequence[Point]]) -> float | None:
    slopes = [
        ((later.value - earlier.value) / (later.at_s - earlier.at_s), later.at_s - earlier.at_s)
        for life in lives
        for earlier, later in combinations(_thinned(life), 2)
        if later.at_s > earlier.at_s
    ]
    if not slopes:
        return None
    return _weighted_median(slopes) * max(life[-1].at_s - life[0].at_s for life in lives)


def _between(lives: Sequence[Sequence[Point]]) -> float | None:
    if len(lives) < LIVES_COMPARED:
        return None
    young = [(life[0].at_s, median(point.value for point in life[:_YOUNG_POINTS])) for life in lives]
    slopes = [
        ((value - before) / (at_s - earlier_s), 1.0)
        for (earlier_s, before), (at_s, value) in combinations(young, 2)
        if at_s > earlier_s
    ]
    return _weighted_median(slopes) * (young[-1][0] - young[0][0])


def _thinned(life: Sequence[Point]) -> list[Point]:
    """At most so many points: medians of neighbours."""
    size = -(-len(life) // _POINTS_OF_A_LIFE)
    groups = (list(group) for _, group in groupby(enumerate(life), key=lambda each: each[0] // size))
    return [
        Point(median(point.at_s for _, point in group), life[0].life, median(point.value for _, point in group))
        for group in groups
    ]


def _weighted_median(values: list[tuple[float, float]]) -> float:
    """The value at which half of the weight is reached."""
    values.sort()
    half = sum(weight for _, weight in values) / 2
    reached = 0.0
    for value, weight in values:
        reached += weight
        if reached >= half:
            return value
    return values[-1][0]
