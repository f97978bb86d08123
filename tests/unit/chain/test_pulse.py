from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.chain import pulse
from plumised.chain.orders import Confirmed, Failed, Reverted
from plumised.chain.problems import ChainProblem
from plumised.chain.pulse import Pulse

PROBLEM = ChainProblem("some-code", "It rained", "Wait.")


def test_confirmed_heartbeat_is_counted_with_its_time_and_transaction() -> None:
    assert pulse.after(Pulse(), Confirmed("0x1", 5, 0), 1000.0) == Pulse(
        sent=1, confirmed=1, last_at=1000.0, last_hash="0x1"
    )


def test_confirmed_heartbeat_makes_up_for_a_missed_one_but_does_not_uncount_it() -> None:
    seen = pulse.after(pulse.missed(Pulse(), PROBLEM), Confirmed("0x1", 5, 0), 1000.0)
    assert (seen.missed, seen.last_missed) == (1, None)


def test_heartbeat_that_never_left_is_missed_but_not_sent() -> None:
    assert pulse.after(Pulse(), Failed(PROBLEM), 1000.0) == Pulse(
        missed=1, last_missed=PROBLEM, missed_by=(("some-code", 1),)
    )


def test_heartbeat_that_got_lost_is_sent_and_missed() -> None:
    assert pulse.after(Pulse(), Failed(PROBLEM, "0x1"), 1000.0) == Pulse(
        sent=1, missed=1, last_missed=PROBLEM, missed_by=(("some-code", 1),)
    )


def test_reverted_heartbeat_is_missed_and_asks_for_the_registration() -> None:
    outcome = Reverted("0x1", 5, 0)
    seen = pulse.after(Pulse(), outcome, 1000.0)
    assert (seen.sent, seen.missed, seen.confirmed) == (1, 1, 0)
    assert pulse.asks_for_registration(outcome)


@pytest.mark.parametrize(("code", "asks"), [("transaction-would-fail", True), ("insufficient-funds", False)])
def test_only_a_heartbeat_that_would_fail_asks_for_the_registration(code: str, *, asks: bool) -> None:
    assert pulse.asks_for_registration(Failed(ChainProblem(code, "", ""))) is asks


@given(st.floats(0, 1))
def test_heartbeats_are_a_tenth_early_or_late_at_most(chance: float) -> None:
    assert 108.0 <= pulse.next_in_s(120.0, chance, failed=False) <= 132.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_two_tries_and_a_retry_fit_into_the_time_after_which_an_agent_is_dead(first: float, second: float) -> None:
    spent = pulse.next_in_s(120.0, first, failed=False) + pulse.next_in_s(120.0, second, failed=True)
    assert spent < 300.0
