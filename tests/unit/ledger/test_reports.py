"""Signed timestamps only grow, one report is in flight, and its acceptance moves base and totals at once."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumised.ledger import Figures, Proof, StaleReportError
from tests.unit.ledger.histories import ACCOUNT, inference, opened, report

HASH = "0x" + "ab" * 32


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 2**40), st.just("restart")), min_size=1, max_size=10))
def test_timestamps_are_strictly_increasing_over_clock_jumps_and_restarts(events: list[int | str]) -> None:
    given_out: list[int] = []
    with tempfile.TemporaryDirectory() as directory:
        ledger = opened(Path(directory))
        for event in events:
            if isinstance(event, str):
                ledger.close()
                ledger = opened(Path(directory))
            else:
                given_out.append(ledger.reports.next_timestamp(event))
                assert given_out[-1] >= event
        ledger.close()
    assert all(earlier < later for earlier, later in itertools.pairwise(given_out))


def test_skipping_moves_the_next_timestamp_forwards_only(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.reports.skip_timestamps(100)
    ledger.reports.skip_timestamps(50)
    assert ledger.reports.next_timestamp(10) == 101
    ledger.close()


def test_a_report_in_flight_survives_a_restart_to_the_byte(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.reports.start(report(5, tokens=300))
    ledger.close()
    ledger = opened(tmp_path)
    assert ledger.reports.books().in_flight == report(5, tokens=300)
    ledger.close()


def test_acceptance_moves_what_is_reported_and_ends_the_flight(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.usage.record([("first", "handler-0", inference(300))])
    ledger.reports.start(report(5, tokens=300))
    accepted = ledger.reports.accept(5, at=7.5)
    assert (accepted.account, accepted.timestamp, accepted.at, accepted.count) == (ACCOUNT, 5, 7.5, 1)
    assert accepted.covered == Figures(300, 1, 10)
    books = ledger.reports.books()
    assert books.in_flight is None
    assert books.accepted == accepted
    assert books.totals.tokens == 300
    ledger.reports.start(report(6, tokens=400))
    assert ledger.reports.accept(6, at=8.0).count == 2
    ledger.close()


def test_dropping_leaves_what_is_reported_as_it_was(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.reports.start(report(5))
    ledger.reports.drop(5)
    books = ledger.reports.books()
    assert (books.in_flight, books.accepted) == (None, None)
    ledger.close()


def test_a_second_report_in_flight_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.reports.start(report(5))
    with pytest.raises(StaleReportError):
        ledger.reports.start(report(6))
    assert ledger.reports.books().in_flight == report(5)
    ledger.close()


def test_settling_another_report_than_the_one_in_flight_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.reports.start(report(5))
    with pytest.raises(StaleReportError):
        ledger.reports.accept(4, at=1.0)
    with pytest.raises(StaleReportError):
        ledger.reports.drop(6)
    assert ledger.reports.books().in_flight == report(5)
    ledger.close()


def proof(number: int) -> Proof:
    return Proof(f"request-{number}", HASH, HASH, HASH, token_count=number + 1)


def test_proofs_wait_are_carried_and_come_back_when_the_report_is_dropped(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.proofs.add([proof(0), proof(1), proof(2)])
    ids = tuple(stored.id for stored in ledger.proofs.waiting(2))
    ledger.reports.start(report(5, proofs=ids))
    flying = ledger.reports.books().in_flight
    assert flying is not None
    assert flying.proofs == ids
    assert [stored.proof for stored in ledger.proofs.waiting(9)] == [proof(2)]
    ledger.reports.drop(5)
    assert [stored.proof for stored in ledger.proofs.waiting(9)] == [proof(0), proof(1), proof(2)]
    ledger.close()


def test_delivered_and_refused_proofs_never_wait_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.proofs.add([proof(0), proof(1)])
    ledger.reports.start(report(5, proofs=(ledger.proofs.waiting(1)[0].id,)))
    ledger.reports.accept(5, at=1.0)
    ledger.proofs.refuse([ledger.proofs.waiting(1)[0].id])
    ledger.proofs.add([proof(0), proof(1)])
    assert ledger.proofs.waiting(9) == ()
    assert ledger.proofs.count_waiting() == 0
    ledger.close()


def test_recent_proofs_are_the_newest_beyond_a_place_whatever_became_of_them(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.proofs.add([proof(0), proof(1), proof(2)])
    first, *_ = ledger.proofs.waiting(1)
    ledger.reports.start(report(5, proofs=(first.id,)))
    ledger.reports.accept(5, at=1.0)
    assert [stored.proof for stored in ledger.proofs.recent(0, 9)] == [proof(0), proof(1), proof(2)]
    assert [stored.proof for stored in ledger.proofs.recent(0, 2)] == [proof(1), proof(2)]
    assert [stored.proof for stored in ledger.proofs.recent(first.id, 9)] == [proof(1), proof(2)]
    ledger.close()


def test_the_books_tell_how_many_proofs_wait(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.proofs.add([proof(0), proof(1), proof(2)])
    ledger.reports.start(report(5, proofs=(ledger.proofs.waiting(1)[0].id,)))
    assert ledger.reports.books().proofs_waiting == 2
    ledger.close()


def test_an_empty_proof_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with pytest.raises(ValueError, match="at least one token"):
        ledger.proofs.add([Proof("r", HASH, HASH, HASH, token_count=0)])
    ledger.close()
