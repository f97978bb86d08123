"""What is called flat, and what is not."""

from __future__ import annotations

from random import Random

import pytest

from tests.soak.judgement import Bound, Point, judged

STEP_S = 5.0
LENGTH_S = 900.0
SETTLING_S = 60.0
LIFE_S = 150.0
BOUND = Bound(floor=8.0, share=0.05)
LEVEL = 100.0


def series(rate_per_s: float, *, noise: float = 2.0, life_s: float = LENGTH_S, seed: int = 7) -> list[Point]:
    """A figure that grows at a rate, and begins anew with each life."""
    chance = Random(seed)
    points = []
    for number in range(int(LENGTH_S / STEP_S)):
        at_s = number * STEP_S
        age_s = at_s % life_s
        life = str(int(at_s // life_s))
        points.append(Point(at_s, life, LEVEL + rate_per_s * age_s + chance.uniform(-noise, noise)))
    return points


def test_noise_is_flat() -> None:
    found = judged(series(0.0), SETTLING_S, BOUND)

    assert found.flat
    assert found.level == pytest.approx(LEVEL, abs=1)


def test_a_leak_in_one_long_life_is_found() -> None:
    found = judged(series(0.02), SETTLING_S, BOUND)

    assert not found.flat
    assert found.within == pytest.approx(0.02 * (LENGTH_S - SETTLING_S), rel=0.1)


def test_a_leak_is_found_although_restarts_take_it_back() -> None:
    assert not judged(series(0.2, life_s=LIFE_S), SETTLING_S, BOUND).flat


def test_a_sawtooth_within_a_life_is_flat() -> None:
    tooth_s = 60.0
    points = [Point(point.at_s, "one", point.value + 0.5 * (point.at_s % tooth_s)) for point in series(0.0)]

    assert judged(points, SETTLING_S, BOUND).flat


def test_restarts_that_begin_at_the_same_level_are_flat() -> None:
    found = judged(series(0.0, life_s=LIFE_S), SETTLING_S, BOUND)

    assert found.flat
    assert found.lives == LENGTH_S / LIFE_S


def test_what_each_death_leaves_to_the_next_life_is_found() -> None:
    points = [
        Point(point.at_s, point.life, point.value + 5.0 * int(point.life)) for point in series(0.0, life_s=LIFE_S)
    ]

    found = judged(points, SETTLING_S, BOUND)

    assert not found.flat
    assert found.within is not None
    assert found.within < BOUND.floor
    assert found.between == pytest.approx(25.0, rel=0.2)


def test_a_file_that_grows_with_the_work_is_found() -> None:
    ledger = [Point(number * STEP_S, "", 1e6 + 2e4 * number) for number in range(180)]

    assert not judged(ledger, SETTLING_S, Bound(floor=5e5, share=0.05)).flat


def test_what_shrinks_is_flat() -> None:
    assert judged(series(-0.05), SETTLING_S, BOUND).flat


def test_what_happens_before_a_life_has_settled_does_not_count() -> None:
    points = [Point(each.at_s, "one", min(each.value, 2 * each.at_s)) for each in series(0.0, noise=0.0)]

    assert judged(points, SETTLING_S, BOUND).flat


def test_a_few_wild_samples_change_nothing() -> None:
    points = series(0.0)
    for number in range(0, len(points), 9):
        points[number] = Point(points[number].at_s, points[number].life, 10 * LEVEL)

    assert judged(points, SETTLING_S, BOUND).flat


def test_lives_that_are_too_short_to_tell_are_not_called_flat() -> None:
    found = judged(series(0.0, life_s=SETTLING_S), SETTLING_S, BOUND)

    assert found.within is None
    assert not found.flat


def test_a_large_figure_may_grow_by_its_share() -> None:
    grown = [Point(point.at_s, point.life, 10 * point.value) for point in series(0.004)]

    assert judged(grown, SETTLING_S, BOUND).flat
    assert not judged(grown, SETTLING_S, Bound(floor=8.0, share=0.01)).flat


def test_no_samples_are_not_flat() -> None:
    assert not judged([], SETTLING_S, BOUND).flat
