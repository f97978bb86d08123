"""Verdicts on an engine from what was observed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.engine.health import Ailment, Busy, Healthy, Part, Stuck, Verdict, Vitals, judge
from plumised.engine.policy import EnginePolicy
from plumised.ipc.messages import Phase

POLICY = EnginePolicy()
NOW = 1000.0
WELL = Part("main", 1.0, 1.0)


def verdict(
    *parts: Part, phase: Phase | None = Phase.ONLINE, progress_s: float = 0.0, absent_s: float = 0.0
) -> Verdict:
    absent = (("handler-3", NOW - absent_s),) if absent_s else ()
    return judge(Vitals(NOW, phase, NOW - progress_s, parts, absent), POLICY)


@pytest.mark.parametrize(
    ("silent_s", "idle_s", "expected"),
    [
        (0.0, 0.0, Healthy()),
        (9.9, 500.0, Healthy()),
        (10.0, 9.9, Busy("p2pd", NOW - 10)),
        (10.0, 10.0, Stuck("p2pd", NOW - 10, Ailment.IDLE)),
        (599.0, 0.0, Busy("p2pd", NOW - 599)),
        (600.0, 0.0, Stuck("p2pd", NOW - 600, Ailment.SPINNING)),
        (600.0, 10.0, Stuck("p2pd", NOW - 600, Ailment.IDLE)),
    ],
)
def test_a_part_is_stuck_when_it_neither_answers_nor_works(silent_s: float, idle_s: float, expected: Verdict) -> None:
    assert verdict(WELL, Part("p2pd", silent_s, idle_s)) == expected


def test_a_dead_part_is_told_at_once_and_before_all_others() -> None:
    dead = Part("handler-1", 1.0, 1.0, dead=True)
    assert verdict(Part("main", 50.0, 50.0), dead) == Stuck("handler-1", NOW - 1, Ailment.DEAD)
    assert isinstance(verdict(dead, phase=Phase.LOADING), Stuck)


def test_a_stuck_part_is_told_before_a_busy_one() -> None:
    assert verdict(Part("main", 50.0, 0.0), Part("dht", 50.0, 50.0)) == Stuck("dht", NOW - 50, Ailment.IDLE)


def test_a_handler_that_does_not_come_back_is_missed_after_a_while() -> None:
    assert verdict(WELL, absent_s=9.0) == Healthy()
    assert verdict(WELL, absent_s=10.0) == Stuck("handler-3", NOW - 10, Ailment.ABSENT)


@pytest.mark.parametrize("phase", [None, Phase.IMPORTING, Phase.JOINING, Phase.LOADING])
def test_before_it_serves_only_main_is_judged_and_with_more_patience(phase: Phase | None) -> None:
    assert verdict(Part("main", 29.0, 29.0), Part("dht", 500.0, 500.0), phase=phase) == Healthy()
    assert verdict(Part("main", 30.0, 30.0), phase=phase) == Stuck("main", NOW - 30, Ailment.IDLE)
    assert verdict(Part("main", 30.0, 1.0), phase=phase) == Busy("main", NOW - 30)


def test_a_start_without_progress_is_stuck_however_lively_it_is() -> None:
    assert verdict(WELL, phase=Phase.LOADING, progress_s=599.0) == Healthy()
    assert verdict(WELL, phase=Phase.LOADING, progress_s=600.0) == Stuck("main", NOW - 600, Ailment.NO_PROGRESS)


def test_an_engine_that_ends_may_lose_its_parts_but_not_take_for_ever() -> None:
    dead = Part("p2pd", 100.0, 100.0, dead=True)
    assert verdict(WELL, dead, phase=Phase.DRAINING, progress_s=29.0) == Healthy()
    assert verdict(WELL, dead, phase=Phase.DRAINING, progress_s=30.0) == Stuck("main", NOW - 30, Ailment.NO_PROGRESS)


ages = st.floats(0, 2000)
parts = st.builds(Part, st.sampled_from(["main", "runtime", "dht", "p2pd", "handler-0"]), ages, ages)


@given(st.lists(parts, max_size=6), ages)
def test_what_works_is_never_killed_before_the_limit(observed: list[Part], progress_s: float) -> None:
    working = [Part(part.name, min(part.silent_s, 599.0), min(part.idle_s, 9.0)) for part in observed]
    assert not isinstance(verdict(*working, progress_s=progress_s), Stuck)


@given(st.lists(parts, max_size=6))
def test_every_stopped_part_is_found(observed: list[Part]) -> None:
    assert isinstance(verdict(*observed, Part("p2pd", 10.0, 10.0)), Stuck)
