"""Which faults are drawn."""

from __future__ import annotations

from itertools import islice

from tests.e2e.faults import ROWS
from tests.soak.storm import NOT_DRAWN, drawn

NAMES = ("a", "b")
ROUND = len(ROWS) - len(NOT_DRAWN)


def test_a_seed_draws_the_same_faults_again_and_another_one_others() -> None:
    first, again, other = (list(islice(drawn(seed, NAMES), 2 * ROUND)) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_every_fault_comes_once_before_any_comes_again() -> None:
    blows = list(islice(drawn(3, NAMES), 2 * ROUND))

    for half in (blows[:ROUND], blows[ROUND:]):
        assert {blow.row.fault for blow in half} == {row.fault for row in ROWS} - NOT_DRAWN
    assert [blow.row for blow in blows[:ROUND]] != [blow.row for blow in blows[ROUND:]]


def test_every_node_has_its_share() -> None:
    assert {blow.victim for blow in islice(drawn(4, NAMES), ROUND)} == set(NAMES)


def test_what_is_not_drawn_is_in_the_fault_matrix() -> None:
    assert {row.fault for row in ROWS} >= NOT_DRAWN
