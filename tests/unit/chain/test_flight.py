from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from plumised.chain.answers import Receipt
from plumised.chain.flight import (
    Abandon,
    Flight,
    FlightPolicy,
    GiveUp,
    Replace,
    Resend,
    Settle,
    Supersede,
    View,
    Wait,
    decide,
)

POLICY = FlightPolicy(
    replace_after_s=45, resend_after_s=15, settle_s=6, doubt_s=15, most_attempts=3, poll_s=1, slow_poll_s=30
)
FLIGHT = Flight(nonce=7, depth=0, attempts=1, attempted_at=100.0, sent_at=100.0)
PENDING = View(now=101.0, mined_nonce=7, pending_nonce=8, known=True, receipt=None, head=0)
ABSENT = replace(PENDING, known=False, pending_nonce=7)
RECEIPT = Receipt(hash="0x" + "1" * 64, block_number=50, succeeded=True, gas_used=1, gas_price=1)
MINED = View(now=110.0, mined_nonce=8, pending_nonce=8, known=True, receipt=RECEIPT, head=50)


def test_pending_transaction_is_waited_for() -> None:
    assert decide(FLIGHT, PENDING, POLICY) == (FLIGHT, Wait())


def test_receipt_settles_it() -> None:
    assert decide(FLIGHT, MINED, POLICY)[1] == Settle(RECEIPT)


def test_depth_is_waited_for() -> None:
    deep = replace(FLIGHT, depth=2)
    assert decide(deep, replace(MINED, head=51), POLICY)[1] == Wait()
    assert decide(deep, replace(MINED, head=52), POLICY)[1] == Settle(RECEIPT)


def test_chain_without_further_blocks_settles_it_after_a_while() -> None:
    seen, _ = decide(replace(FLIGHT, depth=2), MINED, POLICY)
    assert decide(seen, replace(MINED, now=115.9), POLICY)[1] == Wait()
    assert decide(seen, replace(MINED, now=116.0), POLICY)[1] == Settle(RECEIPT)


def test_reorganisation_starts_the_wait_for_depth_anew() -> None:
    seen, _ = decide(replace(FLIGHT, depth=2), MINED, POLICY)
    back, decision = decide(seen, replace(PENDING, now=112.0), POLICY)
    assert (back.seen_at, decision) == (None, Wait())
    assert decide(back, replace(MINED, now=117.0), POLICY)[1] == Wait()


def test_transaction_that_no_node_has_is_handed_over_again() -> None:
    assert decide(FLIGHT, replace(ABSENT, now=114.9), POLICY)[1] == Wait()
    assert decide(FLIGHT, replace(ABSENT, now=115.0), POLICY)[1] == Resend()


def test_transaction_taken_up_after_a_crash_is_handed_over_at_once() -> None:
    assert decide(replace(FLIGHT, sent_at=float("-inf")), ABSENT, POLICY)[1] == Resend()


def test_overdue_transaction_is_replaced() -> None:
    assert decide(FLIGHT, replace(PENDING, now=144.9), POLICY)[1] == Wait()
    assert decide(FLIGHT, replace(PENDING, now=145.0), POLICY)[1] == Replace()


def test_last_attempt_is_given_up_when_it_is_overdue() -> None:
    last = replace(FLIGHT, attempts=3)
    assert decide(last, replace(PENDING, now=144.9), POLICY)[1] == Wait()
    given_up, decision = decide(last, replace(PENDING, now=145.0), POLICY)
    assert (given_up.given_up, decision) == (True, GiveUp())


def test_exhausted_transaction_is_given_up_instead_of_replaced() -> None:
    assert decide(replace(FLIGHT, exhausted=True), replace(PENDING, now=145.0), POLICY)[1] == GiveUp()


def test_given_up_transaction_is_raised_when_that_is_due_and_possible() -> None:
    given_up = replace(FLIGHT, given_up=True)
    assert decide(given_up, replace(PENDING, now=144.9), POLICY)[1] == Wait()
    assert decide(given_up, replace(PENDING, now=145.0), POLICY)[1] == Replace()


def test_given_up_transaction_that_could_not_be_raised_is_tried_again_later() -> None:
    given_up = replace(FLIGHT, given_up=True, exhausted=True)
    resting, decision = decide(given_up, replace(PENDING, now=145.0), POLICY)
    assert decision == Wait()
    assert decide(resting, replace(PENDING, now=189.9), POLICY)[1] == Wait()
    assert decide(resting, replace(PENDING, now=190.0), POLICY)[1] == Replace()


def test_given_up_transaction_without_attempts_left_is_only_watched() -> None:
    assert decide(replace(FLIGHT, given_up=True, attempts=3), replace(PENDING, now=9999.0), POLICY)[1] == Wait()


def test_given_up_transaction_behind_a_gap_is_forgotten() -> None:
    gap = replace(PENDING, mined_nonce=5, pending_nonce=5)
    assert decide(FLIGHT, replace(gap, now=101.0), POLICY)[1] == Wait()
    assert decide(replace(FLIGHT, given_up=True), gap, POLICY)[1] == Abandon()


def test_given_up_transaction_that_no_node_has_is_forgotten() -> None:
    assert decide(replace(FLIGHT, given_up=True), ABSENT, POLICY)[1] == Abandon()


def test_nonce_used_without_a_receipt_is_believed_when_it_lasts() -> None:
    taken = replace(ABSENT, mined_nonce=8, pending_nonce=8)
    doubting, decision = decide(FLIGHT, taken, POLICY)
    assert decision == Wait()
    assert decide(doubting, replace(taken, now=115.9), POLICY)[1] == Wait()
    assert decide(doubting, replace(taken, now=116.0), POLICY)[1] == Supersede()


def test_doubt_that_ends_is_forgotten() -> None:
    taken = replace(ABSENT, mined_nonce=8, pending_nonce=8)
    doubting, _ = decide(FLIGHT, taken, POLICY)
    sure, _ = decide(doubting, replace(PENDING, now=110.0), POLICY)
    assert decide(sure, replace(taken, now=117.0), POLICY)[1] == Wait()


def test_receipt_ends_all_doubt() -> None:
    doubting, _ = decide(FLIGHT, replace(ABSENT, mined_nonce=8, pending_nonce=8), POLICY)
    assert decide(doubting, replace(MINED, now=999.0), POLICY)[1] == Settle(RECEIPT)


def test_nonce_ahead_of_the_chain_is_abandoned_when_that_lasts() -> None:
    ahead = replace(ABSENT, mined_nonce=3, pending_nonce=3)
    doubting, decision = decide(FLIGHT, ahead, POLICY)
    assert decision == Wait()
    assert decide(doubting, replace(ahead, now=116.0), POLICY)[1] == Abandon()


def test_foreign_transaction_at_the_nonce_is_not_fought() -> None:
    foreign = replace(ABSENT, pending_nonce=8)
    assert decide(FLIGHT, replace(foreign, now=130.0), POLICY)[1] == Wait()
    assert decide(FLIGHT, replace(foreign, now=145.0), POLICY)[1] == GiveUp()


times = st.floats(0, 1e6)
flights = st.builds(
    Flight,
    nonce=st.integers(0, 9),
    depth=st.integers(0, 3),
    attempts=st.integers(1, 5),
    attempted_at=times,
    sent_at=times,
    seen_at=st.none() | times,
    doubt_since=st.none() | times,
    exhausted=st.booleans(),
    given_up=st.booleans(),
)
views = st.builds(
    View,
    now=times,
    mined_nonce=st.integers(0, 9),
    pending_nonce=st.integers(0, 9),
    known=st.booleans(),
    receipt=st.none() | st.just(RECEIPT),
    head=st.integers(50, 60),
)


@given(flights, views)
def test_nothing_is_sent_once_the_nonce_is_used(flight: Flight, view: View) -> None:
    _, decision = decide(flight, view, POLICY)
    if view.receipt is not None or view.mined_nonce > flight.nonce:
        assert not isinstance(decision, Resend | Replace)


@given(flights, views)
def test_nothing_is_signed_beyond_the_bounds(flight: Flight, view: View) -> None:
    _, decision = decide(flight, view, POLICY)
    if flight.exhausted or flight.attempts >= POLICY.most_attempts:
        assert not isinstance(decision, Replace)


@given(flights, views)
def test_nothing_is_forgotten_while_a_node_has_it_and_its_nonce_is_free(flight: Flight, view: View) -> None:
    _, decision = decide(flight, view, POLICY)
    if view.known and view.mined_nonce <= flight.nonce <= view.pending_nonce:
        assert not isinstance(decision, Abandon | Supersede)


@given(flights, views)
def test_it_is_given_up_only_once(flight: Flight, view: View) -> None:
    after, decision = decide(flight, view, POLICY)
    if isinstance(decision, GiveUp):
        assert not flight.given_up
        assert after.given_up
