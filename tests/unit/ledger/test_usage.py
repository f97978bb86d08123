"""What was served is known exactly, whatever the order of news, closing and restarts."""

import random
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumised.ipc.messages import Counters, Usage
from plumised.ledger import ImplausibleUsageError, LedgerFullError, Totals
from plumised.ledger.merging import later_usage, total
from tests.unit.ledger.histories import histories, inference, news, opened


def expected(history: list[tuple[str, str, Usage]]) -> Totals:
    best: dict[tuple[str, str], Usage] = {}
    for incarnation, handler, usage in history:
        known = best.get((incarnation, handler), usage)
        best[incarnation, handler] = later_usage(known, usage)
    return total(best.values())


@settings(max_examples=40, deadline=None)
@given(histories, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_makes_the_same_totals(
    history: list[tuple[str, str, Usage]], chance: random.Random
) -> None:
    shuffled = history + [chance.choice(history) for _ in history]
    chance.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as directory:
        ledger = opened(Path(directory))
        for item in shuffled:
            ledger.usage.record([item])
        assert ledger.usage.totals() == expected(history)
        ledger.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(news, st.just("restart"), st.just("close second")), max_size=15))
def test_totals_never_shrink_over_restarts_and_closing(
    history: list[tuple[str, str, Usage] | str],
) -> None:
    closed = False
    counted: list[tuple[str, str, Usage]] = []
    with tempfile.TemporaryDirectory() as directory:
        ledger = opened(Path(directory))
        for event in history:
            if event == "restart":
                ledger.close()
                ledger = opened(Path(directory))
            elif event == "close second":
                ledger.usage.close("second")
                closed = True
            elif not isinstance(event, str):
                ledger.usage.record([event])
                if not (closed and event[0] == "second"):
                    counted.append(event)
            assert ledger.usage.totals() == expected(counted)
        ledger.close()


def test_news_of_a_closed_incarnation_is_ignored(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.usage.record([("first", "handler-0", inference(100))])
    ledger.usage.close("first")
    assert ledger.usage.record([("first", "handler-0", inference(900))]).tokens == 100
    ledger.close()


def test_closing_an_incarnation_keeps_its_work_and_frees_its_rows(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for number in range(20):
        ledger.usage.record([(f"life-{number}", "handler-0", inference(10)), (f"life-{number}", "h1", inference(1))])
        assert ledger.usage.close(f"life-{number}").tokens == 11 * (number + 1)
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        assert database.execute("SELECT count(*) FROM usage").fetchone() == (0,)


def test_closing_takes_the_news_that_comes_with_it(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    assert ledger.usage.close("first", [("first", "handler-0", inference(7))]).tokens == 7
    assert ledger.usage.close("first").tokens == 7
    ledger.close()


def test_an_absurd_counter_is_refused_and_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.usage.record([("first", "handler-0", inference(5))])
    with pytest.raises(ImplausibleUsageError):
        ledger.usage.record([("first", "handler-0", Usage(Counters(tokens=2**64), Counters(), Counters()))])
    assert ledger.usage.totals().tokens == 5
    ledger.close()


def test_what_a_full_disk_refused_is_kept_and_written_with_the_next_success(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.usage.record([("first", "handler-0", inference(5))])
    pages = ledger._database.rows("PRAGMA page_count")[0].integer(0)
    ledger._database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerFullError) as refused:
        ledger.usage.record([("x" * 5000, f"handler-{number}", inference(10)) for number in range(10)])
    assert str(tmp_path) in refused.value.message
    assert ledger.usage.totals().tokens == 5
    assert ledger.usage.unwritten == 10
    ledger._database.rows("PRAGMA max_page_count = 1000000")
    assert ledger.usage.record([("first", "handler-0", inference(6))]).tokens == 106
    assert ledger.usage.unwritten == 0
    ledger.close()
