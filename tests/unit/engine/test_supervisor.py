"""The supervisor's decisions, without a process."""

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.engine.causes import Cause
from plumised.engine.policy import EnginePolicy
from plumised.engine.supervisor import (
    Action,
    After,
    Backoff,
    End,
    Ended,
    Event,
    Failed,
    Idle,
    Online,
    Restart,
    Serving,
    Spawn,
    Start,
    Starting,
    State,
    Stop,
    Stopping,
    Supervision,
    Tick,
    Unhealthy,
    decide,
    next_time,
)

POLICY = EnginePolicy()
CRASH = Cause("engine-crashed", "m", "r")
FINAL = Cause("span", "m", "r", permanent=True)
STUCK = Cause("engine-stuck", "m", "r")


def after(state: State, event: Event, time: float = 0.0, random: float = 0.5) -> tuple[State, tuple[Action, ...]]:
    supervision, actions = decide(Supervision(state), event, time, POLICY, lambda: random)
    return supervision.state, actions


@pytest.mark.parametrize(
    ("state", "event", "following", "actions"),
    [
        (Idle(), Start(), Starting(), (Spawn(),)),
        (Idle(), Tick(), Idle(), ()),
        (Idle(), Stop(), Idle(), ()),
        (Idle(), Restart(), Idle(), ()),
        (Starting(), Start(), Starting(), ()),
        (Starting(), Online(), Serving(), ()),
        (Starting(), Stop(), Stopping(After.IDLE), (End(POLICY.stop_timeout_s),)),
        (Starting(), Ended(CRASH), Backoff(0.5), ()),
        (Starting(), Ended(FINAL), Failed(POLICY.failed_retry_s), ()),
        (Starting(), Unhealthy(STUCK, answers=False), Stopping(After.RETRY, STUCK), (End(0.0),)),
        (Serving(), Unhealthy(STUCK, answers=True), Stopping(After.RETRY, STUCK), (End(POLICY.unhealthy_stop_s),)),
        (Serving(), Stop(), Stopping(After.IDLE), (End(POLICY.stop_timeout_s),)),
        (Serving(), Restart(), Stopping(After.START), (End(POLICY.stop_timeout_s),)),
        (Serving(), Ended(CRASH), Backoff(0.5), ()),
        (Stopping(After.IDLE), Ended(CRASH), Idle(), ()),
        (Stopping(After.IDLE), Restart(), Stopping(After.IDLE), ()),
        (Stopping(After.IDLE), Online(), Stopping(After.IDLE), ()),
        (Stopping(After.START), Ended(CRASH), Starting(), (Spawn(),)),
        (Stopping(After.START), Stop(), Stopping(After.IDLE), ()),
        (Stopping(After.RETRY, STUCK), Stop(), Stopping(After.IDLE, STUCK), ()),
        (Stopping(After.RETRY, STUCK), Restart(), Stopping(After.START), ()),
        (Stopping(After.RETRY, STUCK), Unhealthy(STUCK, answers=True), Stopping(After.RETRY, STUCK), ()),
        (Stopping(After.RETRY, STUCK), Ended(STUCK), Backoff(0.5), ()),
        (Backoff(1.0), Tick(), Backoff(1.0), ()),
        (Backoff(0.0), Tick(), Starting(), (Spawn(),)),
        (Backoff(1.0), Stop(), Idle(), ()),
        (Backoff(1.0), Restart(), Starting(), (Spawn(),)),
        (Failed(1.0), Tick(), Failed(1.0), ()),
        (Failed(0.0), Tick(), Starting(), (Spawn(),)),
        (Failed(1.0), Stop(), Idle(), ()),
        (Failed(1.0), Restart(), Starting(), (Spawn(),)),
    ],
)
def test_what_follows_in_each_state(state: State, event: Event, following: State, actions: tuple[Action, ...]) -> None:
    assert after(state, event) == (following, actions)


def crashed(times: int, policy: EnginePolicy = POLICY, first: float = 0.0) -> Supervision:
    """The supervision after so many crashes in a row, the first of them at a time, all others at time 0."""
    now = decide(Supervision(), Start(), first, policy, lambda: 1.0)[0]
    for time in [first, *[0.0] * (times - 1)]:
        now = decide(replace(now, state=Starting()), Ended(CRASH), time, policy, lambda: 1.0)[0]
    return now


def looping() -> Supervision:
    """The supervision at time 0 when a crash loop has just been seen."""
    return crashed(POLICY.crash_loop_failures, first=-POLICY.crash_loop_s)


def test_the_wait_doubles_with_each_failure_up_to_its_limit() -> None:
    patient = replace(POLICY, crash_loop_failures=100)
    waits = [next_time(crashed(times, patient)) for times in range(1, 10)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


@given(st.integers(1, 5000), st.floats(0, 1))
def test_no_wait_is_negative_or_longer_than_its_limit(failures: int, random: float) -> None:
    patient = replace(POLICY, crash_loop_failures=10**9)
    before = Supervision(Starting(), failures=failures)
    wait = next_time(decide(before, Ended(CRASH), 0.0, patient, lambda: random)[0])
    assert wait is not None
    assert 0 <= wait <= patient.longest_backoff_s


def test_a_crash_loop_is_failed_and_then_tried_slowly() -> None:
    assert isinstance(crashed(POLICY.crash_loop_failures - 1, first=-POLICY.crash_loop_s).state, Backoff)
    now = looping()
    assert now.state == Failed(POLICY.failed_retry_s)
    assert now.cause == CRASH
    again = decide(replace(now, state=Serving()), Ended(CRASH), 50.0, POLICY, lambda: 1.0)[0]
    assert again.state == Failed(50.0 + POLICY.failed_retry_s)


def test_many_failures_within_a_short_time_are_no_crash_loop() -> None:
    now = crashed(POLICY.crash_loop_failures * 2, first=1.0 - POLICY.crash_loop_s)
    assert now.state == Backoff(POLICY.longest_backoff_s)


def test_a_stable_run_clears_the_record() -> None:
    now = replace(looping(), state=Serving(), since=100.0)
    assert decide(now, Tick(), 100.0 + POLICY.stable_s - 1, POLICY, lambda: 1.0)[0] == now
    settled = decide(now, Tick(), 100.0 + POLICY.stable_s, POLICY, lambda: 1.0)[0]
    assert (settled.failures, settled.failing_since, settled.looping, settled.cause) == (0, None, False, None)
    ended = decide(now, Ended(CRASH), 1000.0, POLICY, lambda: 1.0)[0]
    assert ended.state == Backoff(1001.0)


def test_a_stuck_engine_that_was_stable_before_starts_a_fresh_record() -> None:
    now = replace(crashed(4), state=Serving(), since=0.0)
    stuck = decide(now, Unhealthy(STUCK, answers=False), POLICY.stable_s, POLICY, lambda: 1.0)[0]
    assert decide(stuck, Ended(STUCK), 200.0, POLICY, lambda: 1.0)[0].failures == 1


def test_a_restart_forgets_a_crash_loop() -> None:
    now = decide(looping(), Restart(), 1.0, POLICY, lambda: 1.0)[0]
    assert (now.state, now.failures, now.looping) == (Starting(), 0, False)


causes = st.sampled_from([CRASH, FINAL, STUCK])
events = st.one_of(
    st.sampled_from([Start(), Stop(), Restart(), Online(), Tick()]),
    st.builds(Unhealthy, causes, st.booleans()),
    st.builds(Ended, causes),
)
histories = st.lists(st.tuples(events, st.floats(0, 700), st.floats(0, 1)), max_size=60)


@given(histories)
def test_no_history_has_two_engines_at_once_or_ends_one_that_is_not_there(
    history: list[tuple[Event, float, float]],
) -> None:
    now, time, alive = Supervision(), 0.0, False
    for event, elapsed, random in history:
        if isinstance(event, Ended) and not alive:
            continue  # nothing is there that could end
        time += elapsed
        if isinstance(event, Ended):
            alive = False
        now, actions = decide(now, event, time, POLICY, partial(float, random))
        for action in actions:
            if isinstance(action, Spawn):
                assert not alive
                alive = True
            else:
                assert alive
        assert alive == isinstance(now.state, Starting | Serving | Stopping)
        assert now.since <= time


@given(histories, st.lists(st.sampled_from([Tick(), Online(), Restart(), Unhealthy(STUCK, answers=True)]), max_size=10))
def test_after_stop_nothing_but_a_start_brings_an_engine_back(
    history: list[tuple[Event, float, float]], following: list[Event]
) -> None:
    now, time = Supervision(), 0.0
    for event, elapsed, random in history:
        time += elapsed
        now, _ = decide(now, event, time, POLICY, partial(float, random))
    now, _ = decide(now, Stop(), time, POLICY, lambda: 0.0)
    for event in [*following, Ended(CRASH), *following]:
        time += 1000
        now, actions = decide(now, event, time, POLICY, lambda: 0.0)
        assert Spawn() not in actions
    assert now.state == Idle()
