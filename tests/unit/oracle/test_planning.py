"""What is done next: one report in flight, settled by history or by age, and nothing signed with a wrong clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ledger import Figures, ReportBooks
from plumised.oracle.answers import Refusal, Refused, Sight, Unknown, Unsent
from plumised.oracle.client import Answer, Silence
from plumised.oracle.clocks import ClockComparison, Clocks, skew
from plumised.oracle.formats import Dialect
from plumised.oracle.planning import (
    Fate,
    Forget,
    Hold,
    HoldReason,
    Look,
    Policy,
    Repeat,
    Send,
    Settle,
    Skip,
    Step,
    asked_pause_s,
    backoff_s,
    fate,
    fate_of_replayed,
    interval_s,
    plan,
)
from plumised.oracle.shares import Limits
from tests.unit.oracle.examples import NOW, accepted, account, books, flying, totals

POLICY = Policy()
LIMITS = Limits(1000, 1000, 10)
GOOD = Clocks(float(NOW), proven=True, skew_s=0.0)
UNPROVEN = Clocks(float(NOW), proven=False, skew_s=0.0)
METRICS, REPORT = Dialect.METRICS_V1, Dialect.REPORT_V1


def sight(latest: int | None = 0, server_time: float | None = NOW) -> Sight:
    return Sight(latest, server_time, "", answered=True)


def step(
    known: ReportBooks,
    seen: Sight | None = None,
    clocks: Clocks = GOOD,
    dialect: Dialect = METRICS,
    *,
    under_way: bool = False,
) -> Step:
    return plan(known, account(dialect), seen, clocks, POLICY, LIMITS, under_way=under_way)


def test_with_a_proven_clock_and_nothing_in_flight_a_report_is_sent() -> None:
    known = accepted(Figures(), Figures(5, 5, 0))
    sent = step(books(totals(9), known))
    assert isinstance(sent, Send)
    assert sent.share.tokens == 9


def test_nothing_is_signed_before_the_clock_was_compared() -> None:
    assert step(books(), clocks=UNPROVEN) == Look()
    assert isinstance(step(books(), sight(), UNPROVEN), Send)


@pytest.mark.parametrize("ahead", [51.0, -3600.0])
def test_with_a_clock_that_is_off_nothing_is_signed_and_the_amount_is_told(ahead: float) -> None:
    off = Clocks(float(NOW), proven=True, skew_s=ahead)
    assert step(books(), clocks=off) == Look()
    assert step(books(), sight(), off) == Hold(HoldReason.CLOCK_SKEW, None, ahead)


def test_the_fate_of_the_report_in_flight_is_asked_first() -> None:
    assert step(books(in_flight=flying())) == Look()


@pytest.mark.parametrize("latest", [NOW - 10, NOW])
def test_a_report_is_booked_when_the_history_is_as_late_as_it(latest: int) -> None:
    assert step(books(in_flight=flying(10)), sight(latest)) == Settle(flying(10))


@pytest.mark.parametrize("age", [30, 54])
def test_a_young_report_that_the_oracle_has_ended_without_booking_is_sent_again_unchanged(age: int) -> None:
    assert step(books(in_flight=flying(age)), sight(0)) == Repeat(flying(age))


def test_one_that_has_just_ended_is_given_a_while_because_not_the_oracle_may_have_ended_it() -> None:
    assert step(books(in_flight=flying(10)), sight(0)) == Hold(HoldReason.UNSETTLED, 20)


@pytest.mark.parametrize("age", [10, 40, 60])
def test_a_report_that_may_be_under_way_is_never_sent_again_but_looked_for(age: int) -> None:
    assert step(books(in_flight=flying(age)), sight(0), under_way=True) == Hold(HoldReason.UNSETTLED, 15)


@pytest.mark.parametrize("under_way", [False, True])
@pytest.mark.parametrize("proofs", [(), (1,)])
def test_a_report_is_given_up_when_it_can_no_longer_be_booked(proofs: tuple[int, ...], under_way: bool) -> None:
    old, older = flying(90, proofs=proofs), flying(95, proofs=proofs)
    assert step(books(in_flight=old), sight(0), under_way=under_way) == Hold(HoldReason.UNSETTLED, 5)
    assert step(books(in_flight=older), sight(0), under_way=under_way) == Forget(older)


def test_the_age_is_taken_by_the_oracles_clock() -> None:
    assert step(books(in_flight=flying(40)), sight(0, NOW + 100)) == Forget(flying(40))
    assert step(books(in_flight=flying(40)), sight(0, None)) == Repeat(flying(40))


def test_without_history_counters_are_reported_anew_and_proofs_are_held() -> None:
    assert step(books(in_flight=flying(95)), sight(None)) == Forget(flying(95))
    assert step(books(in_flight=flying(40)), sight(None)) == Hold(HoldReason.UNSETTLED, 15)
    assert step(books(in_flight=flying(99, proofs=(1,))), sight(None)) == Hold(HoldReason.UNSETTLED)


def test_a_report_for_another_oracle_is_not_sent_to_this_one() -> None:
    other = flying(40, url="http://elsewhere")
    assert step(books(in_flight=other), sight(0)) == Hold(HoldReason.UNSETTLED, 15)
    assert step(books(in_flight=flying(95, url="http://elsewhere")), sight(0)) == Forget(
        flying(95, url="http://elsewhere")
    )


def test_report_v1_has_no_history_and_goes_by_age() -> None:
    young, old = flying(40, REPORT), flying(95, REPORT)
    assert step(books(in_flight=young), sight(None), dialect=REPORT) == Repeat(young)
    assert step(books(in_flight=young), sight(None), dialect=REPORT, under_way=True) == Hold(HoldReason.UNSETTLED, 55)
    assert step(books(in_flight=old), sight(None), dialect=REPORT) == Forget(old)


def test_timestamps_that_others_used_are_skipped() -> None:
    assert step(books(last_signed=NOW - 5), sight(NOW + 3)) == Skip(NOW + 3)


def test_a_timestamp_that_no_oracle_can_have_accepted_is_not_believed() -> None:
    assert isinstance(step(books(), sight(2**52)), Send)


def test_a_clock_that_was_set_back_waits_until_timestamps_may_grow_again() -> None:
    held = step(books(last_signed=NOW + 100))
    assert held == Hold(HoldReason.CLOCK_BEHIND, 51.0, -101.0)
    assert isinstance(step(books(last_signed=NOW + 49)), Send)


ages = st.integers(-200, 400)


@given(
    ages,
    st.sampled_from(Dialect),
    st.booleans(),
    st.none() | st.integers(NOW - 500, NOW + 500),
    st.booleans(),
    st.booleans(),
)
def test_nothing_else_is_sent_while_the_oracle_may_book_what_it_has(
    age: int, dialect: Dialect, proofs: bool, latest: int | None, asked: bool, under_way: bool
) -> None:
    report = flying(age, dialect, (1,) if proofs else ())
    decided = step(books(in_flight=report), sight(latest) if asked else None, dialect=dialect, under_way=under_way)
    assert not isinstance(decided, Send | Skip)
    if isinstance(decided, Forget):
        assert age >= POLICY.settled_s
        assert latest is not None or not (proofs and dialect.has_history)
    if isinstance(decided, Repeat):
        assert not under_way
        assert POLICY.resend_from_s <= age < POLICY.resend_until_s


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("dialect", list(Dialect))
def test_after_silence_the_fate_is_open(dialect: Dialect, repeated: bool) -> None:
    assert fate(Unknown("?"), dialect, repeated=repeated) is Fate.OPEN


@pytest.mark.parametrize("kind", [Refusal.FORMAT, Refusal.TOO_LARGE, Refusal.CAP, Refusal.NOT_FOUND, Refusal.REDIRECT])
@pytest.mark.parametrize("repeated", [False, True])
def test_what_is_wrong_with_the_report_itself_was_wrong_the_first_time(kind: Refusal, repeated: bool) -> None:
    assert fate(Refused(kind, ""), METRICS, repeated=repeated) is Fate.NOT_BOOKED


@pytest.mark.parametrize("failed", [Refused(Refusal.SIGNATURE, ""), Refused(Refusal.UNREGISTERED, ""), Unsent("")])
def test_another_refusal_settles_a_first_attempt_but_not_the_one_before(failed: Refused | Unsent) -> None:
    assert fate(failed, METRICS, repeated=False) is Fate.NOT_BOOKED
    assert fate(failed, METRICS, repeated=True) is Fate.OPEN


def test_a_replay_is_inquired_where_there_is_a_history() -> None:
    replay = Refused(Refusal.REPLAY, "")
    assert fate(replay, METRICS, repeated=False) is Fate.OPEN
    assert fate(replay, REPORT, repeated=True) is Fate.BOOKED
    assert fate(replay, REPORT, repeated=False) is Fate.NOT_BOOKED


def test_the_history_tells_whose_report_a_replay_met() -> None:
    report = flying()
    assert fate_of_replayed(report, NOW, repeated=False) is Fate.BOOKED
    assert fate_of_replayed(report, NOW + 5, repeated=False) is Fate.NOT_BOOKED
    assert fate_of_replayed(report, NOW + 5, repeated=True) is Fate.BOOKED
    assert fate_of_replayed(report, NOW - 5, repeated=False) is Fate.NOT_BOOKED


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_after_failures_grow_to_a_bound_and_are_never_nothing(failures: int, chance: float) -> None:
    pause = backoff_s(failures, POLICY, chance)
    assert POLICY.first_backoff_s / 2 <= pause <= POLICY.last_backoff_s
    assert pause <= POLICY.first_backoff_s * 2 ** min(failures - 1, 100)


@given(st.floats(0.5, 300), st.none() | st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_a_wish_to_be_left_alone_is_kept_within_bounds_and_shortens_no_pause(
    usual: float, asked: float | None, chance: float
) -> None:
    pause = asked_pause_s(usual, asked, POLICY, chance)
    wish = min(asked or 0.0, POLICY.greatest_wish_s)
    assert max(usual, wish) <= pause <= max(usual, wish * (1 + POLICY.jitter))


@given(st.floats(0, 1, exclude_max=True))
def test_the_interval_is_kept_within_its_jitter(chance: float) -> None:
    assert 54.0 <= interval_s(POLICY, chance) <= 66.0


DATE = "Mon, 02 Feb 2026 02:40:00 GMT"


@pytest.mark.parametrize(
    ("started", "arrived", "expected"),
    [
        (NOW + 0.0, NOW + 0.2, 0.0),
        (NOW + 0.9, NOW + 1.1, 0.0),
        (NOW - 20.0, NOW + 20.0, 0.0),
        (NOW + 3600.0, NOW + 3600.5, 3600.0),
        (NOW - 100.0, NOW - 99.0, -99.0),
    ],
)
def test_skew_is_what_neither_whole_seconds_nor_a_slow_answer_explain(
    started: float, arrived: float, expected: float
) -> None:
    assert skew(started, arrived, float(NOW)) == expected


class TwoClocks:
    wall = float(NOW)
    monotonic = 10.0

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def compared(clocks: TwoClocks) -> ClockComparison:
    comparison = ClockComparison(lambda: clocks.wall, lambda: clocks.monotonic)
    comparison.learn(clocks.wall, Answer(200, b"", DATE))
    return comparison


def test_a_compared_clock_stays_proven_while_time_passes() -> None:
    clocks = TwoClocks()
    comparison = compared(clocks)
    clocks.pass_s(100_000)
    assert comparison.now() == Clocks(clocks.wall, proven=True, skew_s=0.0)


@pytest.mark.parametrize("jump", [-3600.0, 5.0])
def test_a_clock_that_was_set_is_not_proven_any_more(jump: float) -> None:
    clocks = TwoClocks()
    comparison = compared(clocks)
    clocks.wall += jump
    assert not comparison.now().proven


def test_silence_proves_nothing() -> None:
    clocks = TwoClocks()
    comparison = ClockComparison(lambda: clocks.wall, lambda: clocks.monotonic)
    comparison.learn(clocks.wall, Silence("gone", sent=True))
    assert not comparison.now().proven
    assert comparison.skew_s is None


def test_an_answer_without_a_date_leaves_the_clock_to_itself() -> None:
    clocks = TwoClocks()
    comparison = ClockComparison(lambda: clocks.wall, lambda: clocks.monotonic)
    comparison.learn(clocks.wall, Answer(200, b""))
    assert comparison.now() == Clocks(float(NOW), proven=True, skew_s=0.0)
