"""Which steps go together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plumised.petals.fast.turns import Waiting, next_together

SPANS = ("first", "second", "third")
ROWS = 8
lines = st.lists(st.builds(Waiting, st.sampled_from(SPANS), st.integers(1, ROWS)), min_size=1, max_size=30)


@given(lines)
def test_steps_that_go_together_are_of_one_span_and_fit_into_a_pass(line: list[Waiting]) -> None:
    chosen = next_together(line, ROWS)
    assert chosen == sorted(set(chosen))
    assert {line[position].span for position in chosen} == {line[0].span}
    assert sum(line[position].rows for position in chosen) <= ROWS


@given(lines)
def test_the_oldest_is_always_among_them(line: list[Waiting]) -> None:
    assert next_together(line, ROWS)[0] == 0


@given(lines)
def test_nothing_that_fits_is_left_behind(line: list[Waiting]) -> None:
    chosen = next_together(line, ROWS)
    left = ROWS - sum(line[position].rows for position in chosen)
    assert not [
        step
        for position, step in enumerate(line)
        if position not in chosen and step.span == line[0].span and step.rows <= left
    ]


def test_one_alone_goes_alone() -> None:
    assert next_together([Waiting("first", 1)], ROWS) == [0]


def test_nobody_waits_for_more_passes_than_there_are_steps_before_it() -> None:
    # Eight sessions of one row ask again as soon as they are answered; one of eight rows waits among them.
    line = [Waiting(SPANS[0], 1)] * 7 + [Waiting(SPANS[0], ROWS)]
    for _ in range(7):
        chosen = next_together(line, ROWS)
        if line[chosen[0]].rows == ROWS:
            break
        line = [step for position, step in enumerate(line) if position not in chosen]
        line += [Waiting(SPANS[0], 1)] * len(chosen)
    else:
        raise AssertionError("the long step was overtaken again and again")
