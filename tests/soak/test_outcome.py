"""What makes a soak fail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak.judgement import Judgement
from tests.soak.outcome import Books, Outcome, Sessions
from tests.soak.storm import Struck

FLAT = Judgement(level=80.0, within=0.5, between=-1.0, allowed=4.0, lives=5)
GOOD = Outcome(
    seed=1,
    hours=0.25,
    seconds=900.0,
    calm_s=675.0,
    faults=(Struck("host paused", "a", 10.0, 20.0, 5.0),),
    unrecovered="",
    sessions=Sessions(finished=90, failed=2, wrong=0, finished_in_calm=20, failed_in_calm=0),
    books={"a": Books(100, 100), "b": Books(7, 7)},
    left=(),
    defects=(),
    judgements={"a": {"daemon: memory": FLAT}, "b": {"daemon: memory": FLAT}},
)


def test_a_soak_in_which_all_is_as_it_must_be_has_no_shortcoming() -> None:
    assert GOOD.shortcomings() == []
    assert "**flat**" in GOOD.page()


@pytest.mark.parametrize(
    ("outcome", "shortcoming"),
    [
        (replace(GOOD, unrecovered="a after: host paused"), "not well again: a after: host paused"),
        (replace(GOOD, faults=()), "no fault was made"),
        (replace(GOOD, sessions=replace(GOOD.sessions, wrong=1)), "1 sessions gave wrong tokens"),
        (
            replace(GOOD, sessions=replace(GOOD.sessions, finished_in_calm=0)),
            "no session ended well after the last fault",
        ),
        (replace(GOOD, sessions=replace(GOOD.sessions, failed_in_calm=3)), "3 sessions failed after the last fault"),
        (replace(GOOD, books={"a": Books(100, 99)}), "a: served 100, booked 99"),
        (replace(GOOD, books={"a": Books(0, 0)}), "a: served 0, booked 0"),
        (replace(GOOD, left=("a: process: p2pd",)), "left behind: a: process: p2pd"),
        (replace(GOOD, defects=("a: Traceback",)), "defect: a: Traceback"),
        (replace(GOOD, judgements={"a": {"ledger": replace(FLAT, within=4.1)}}), "a: ledger: grows"),
        (replace(GOOD, judgements={"a": {"ledger": replace(FLAT, between=4.1)}}), "a: ledger: grows"),
        (replace(GOOD, judgements={"a": {"ledger": replace(FLAT, within=None)}}), "a: ledger: too few samples"),
    ],
)
def test_anything_else_is_a_shortcoming(outcome: Outcome, shortcoming: str) -> None:
    assert outcome.shortcomings() == [shortcoming]
    assert shortcoming in outcome.page()
    assert "**FAILED**" in outcome.page()
