"""When a pass waits for steps that are about to come."""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from plumised.petals.fast.company import MOST_SESSIONS, PATIENCE, Company

PASS_S: Final = 1.0
ABSENCE_S: Final = 10.0
SPAN: Final = object()

times = st.lists(st.tuples(st.sampled_from(["came", "answered"]), st.integers(0, 5), st.floats(0.0, 4.0)), max_size=60)


def company(*sessions: str, answered_at: float = 100.0) -> Company:
    """Sessions that were answered then, and that take so long to come back."""
    known = Company()
    known.passed(PASS_S)
    for session in sessions:
        known.came(session, SPAN, answered_at - ABSENCE_S - 2 * PASS_S)
        known.answered(session, answered_at - ABSENCE_S - PASS_S)
        known.came(session, SPAN, answered_at - PASS_S)
        known.answered(session, answered_at)
    return known


def test_a_session_alone_waits_for_nobody() -> None:
    known = company("only")
    for _ in range(3):
        known.came("only", SPAN, 110.0)
        assert known.wait_until(SPAN, 110.0, 110.0) is None
        known.answered("only", 111.0)


def test_a_step_waits_for_one_that_is_due_within_its_patience() -> None:
    known = company("due")
    known.came("here", SPAN, 108.0)
    assert known.wait_until(SPAN, 108.0, 108.0) == 108.0 + PATIENCE * PASS_S


def test_nobody_waits_for_a_session_of_other_blocks() -> None:
    known = company("due")
    other = object()
    known.came("here", other, 108.0)
    assert known.wait_until(other, 108.0, 108.0) is None


def test_nobody_waits_for_one_that_comes_later_than_that() -> None:
    known = company("later")
    known.came("here", SPAN, 106.9)
    assert known.wait_until(SPAN, 106.9, 106.9) is None


def test_one_that_has_come_is_waited_for_no_more() -> None:
    known = company("due")
    known.came("here", SPAN, 108.0)
    known.came("due", SPAN, 109.0)
    assert known.wait_until(SPAN, 108.0, 109.0) is None


def test_one_that_does_not_come_back_is_soon_given_up() -> None:
    known = company("gone")
    gone_at = 110.0 + PATIENCE * PASS_S
    known.came("here", SPAN, gone_at)
    assert known.wait_until(SPAN, gone_at, gone_at) is not None
    assert known.wait_until(SPAN, gone_at + 0.1, gone_at + 0.1) is None


def test_nobody_waits_for_a_session_s_second_step_whose_rhythm_is_unknown() -> None:
    known = Company()
    known.passed(PASS_S)
    known.came("fresh", SPAN, 0.0)
    known.answered("fresh", 1.0)
    assert known.wait_until(SPAN, 1.5, 1.5) is None


def test_before_the_first_pass_nobody_waits() -> None:
    known = Company()
    for session in "ab":
        known.came(session, SPAN, 0.0)
        known.answered(session, 1.0)
        known.came(session, SPAN, 2.0)
        known.answered(session, 3.0)
    assert known.wait_until(SPAN, 4.0, 4.0) is None


@given(times, st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_a_step_never_waits_longer_than_its_patience(
    events: list[tuple[str, int, float]], waited_s: float, pass_s: float
) -> None:
    known, now = Company(), 0.0
    known.passed(pass_s)
    for what, session, after_s in events:
        now += after_s
        if what == "came":
            known.came(session, SPAN, now)
        else:
            known.answered(session, now)
    until = known.wait_until(SPAN, now - waited_s, now)
    assert until is None or now < until <= now - waited_s + PATIENCE * pass_s


def test_it_forgets_sessions_that_came_back_longest_ago() -> None:
    known = company("old")
    for number in range(MOST_SESSIONS):
        known.came(number, SPAN, 101.0)
    known.came("here", SPAN, 108.0)
    assert known.wait_until(SPAN, 108.0, 108.0) is None
