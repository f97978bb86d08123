"""What to do about the engine next: a state machine without effects.

The states and what leads from one to the other:

    Idle ─start─▶ Starting ─online─▶ Serving
    Starting, Serving ─unhealthy, stop, restart─▶ Stopping ─ended─▶ Idle, Starting, Backoff or Failed
    Starting, Serving ─ended─▶ Backoff or Failed ─time─▶ Starting

An engine exists in Starting, Serving and Stopping, and only `Ended` leaves them for a state without one, so there are
never two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.engine.causes import Cause
    from plumised.engine.policy import EnginePolicy


@dataclass(frozen=True, slots=True)
class Idle:
    """No engine, and none wanted."""


@dataclass(frozen=True, slots=True)
class Starting:
    """An engine that does not serve yet."""


@dataclass(frozen=True, slots=True)
class Serving:
    """An engine that serves."""


class After(StrEnum):
    """What follows when an engine that is being ended has ended."""

    IDLE = "idle"
    START = "start"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Stopping:
    """An engine that is being ended.

    Attributes:
        after: what follows.
        cause: why it is ended, if it is not healthy.
    """

    after: After
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class Backoff:
    """No engine until a time, after a failure that may pass."""

    until: float


@dataclass(frozen=True, slots=True)
class Failed:
    """No engine until a time, after a crash loop or a failure that does not pass by itself."""

    until: float


State = Idle | Starting | Serving | Stopping | Backoff | Failed


@dataclass(frozen=True, slots=True)
class Supervision:
    """The state, and what the next decision needs of the past.

    Attributes:
        state: see above.
        since: when it was entered.
        failures: how often the engine failed since the last stable run.
        failing_since: when it did so first; None without a failure.
        looping: a crash loop or permanent failure was seen and no stable run since: every further failure is slow.
        cause: of the last failure since the last stable run.
        spawned: how many engines were started.
    """

    state: State = field(default_factory=Idle)
    since: float = 0.0
    failures: int = 0
    failing_since: float | None = None
    looping: bool = False
    cause: Cause | None = None
    spawned: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """The engine is wanted."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The engine is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The engine is wanted anew, without regard to earlier failures."""


@dataclass(frozen=True, slots=True)
class Online:
    """The engine says that it serves."""


@dataclass(frozen=True, slots=True)
class Unhealthy:
    """The engine does not make progress.

    Attributes:
        cause: what is wrong.
        answers: whether its main process can still end in order.
    """

    cause: Cause
    answers: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the engine is left, or it could not be started.

    Attributes:
        cause: why; used if nobody ordered the end.
    """

    cause: Cause


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by."""


Event = Start | Stop | Restart | Online | Unhealthy | Ended | Tick


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start an engine; `Ended` follows in any case."""


@dataclass(frozen=True, slots=True)
class End:
    """End the engine; `Ended` follows. May follow an earlier one, to hasten it.

    Attributes:
        grace_s: seconds that it has to end in order; then it is killed.
    """

    grace_s: float


Action = Spawn | End


def decide(  # noqa: PLR0911 -- one return for each kind of event
    now: Supervision, event: Event, time: float, policy: EnginePolicy, random: Callable[[], float]
) -> tuple[Supervision, tuple[Action, ...]]:
    """The supervision after an event, and what is to be done for it.

    Args:
        now: the supervision before.
        event: what happened; one that does not fit to the state changes nothing.
        time: when, on a monotonic clock.
        policy: the thresholds.
        random: gives numbers from 0 to 1, for the jitter.
    """
    match event:
        case Start():
            return _spawn(now, time) if isinstance(now.state, Idle) else (now, ())
        case Stop():
            return _stop(now, time, policy)
        case Restart():
            return _restart(now, time, policy)
        case Online():
            return (_enter(now, Serving(), time), ()) if isinstance(now.state, Starting) else (now, ())
        case Unhealthy():
            return _unhealthy(now, event, time, policy)
        case Ended():
            return _ended(now, event, time, policy, random)
        case Tick():
            return _tick(now, time, policy)
    assert_never(event)


def next_time(now: Supervision) -> float | None:
    """When the state asks for a `Tick` at the latest."""
    return now.state.until if isinstance(now.state, Backoff | Failed) else None


def _enter(now: Supervision, state: State, time: float) -> Supervision:
    return replace(now, state=state, since=time)


def _spawn(now: Supervision, time: float) -> tuple[Supervision, tuple[Action, ...]]:
    return replace(_enter(now, Starting(), time), spawned=now.spawned + 1), (Spawn(),)


def _stop(now: Supervision, time: float, policy: EnginePolicy) -> tuple[Supervision, tuple[Action, ...]]:
    match now.state:
        case Starting() | Serving():
            return _enter(now, Stopping(After.IDLE), time), (End(policy.stop_timeout_s),)
        case Stopping():
            return replace(now, state=replace(now.state, after=After.IDLE)), ()
        case Idle() | Backoff() | Failed():
            return _enter(now, Idle(), time), ()
    assert_never(now.state)


def _restart(now: Supervision, time: float, policy: EnginePolicy) -> tuple[Supervision, tuple[Action, ...]]:
    fresh = _cleared(now)
    match now.state:
        case Starting() | Serving():
            return _enter(fresh, Stopping(After.START), time), (End(policy.stop_timeout_s),)
        case Stopping(after=After.RETRY):
            return replace(fresh, state=Stopping(After.START)), ()
        case Backoff() | Failed():
            return _spawn(fresh, time)
        case Idle() | Stopping():
            return now, ()
    assert_never(now.state)


def _unhealthy(
    now: Supervision, event: Unhealthy, time: float, policy: EnginePolicy
) -> tuple[Supervision, tuple[Action, ...]]:
    if not isinstance(now.state, Starting | Serving):
        return now, ()
    # A run that was stable before it got stuck has paid for the failures before it.
    now = _settled(now, time, policy)
    grace = policy.unhealthy_stop_s if event.answers else 0.0
    return _enter(now, Stopping(After.RETRY, event.cause), time), (End(grace),)


def _ended(
    now: Supervision, event: Ended, time: float, policy: EnginePolicy, random: Callable[[], float]
) -> tuple[Supervision, tuple[Action, ...]]:
    match now.state:
        case Starting() | Serving():
            return _failed(_settled(now, time, policy), event.cause, time, policy, random), ()
        case Stopping(after=After.IDLE):
            return _enter(now, Idle(), time), ()
        case Stopping(after=After.START):
            return _spawn(now, time)
        case Stopping():
            return _failed(now, event.cause, time, policy, random), ()
        case Idle() | Backoff() | Failed():
            return now, ()
    assert_never(now.state)


def _tick(now: Supervision, time: float, policy: EnginePolicy) -> tuple[Supervision, tuple[Action, ...]]:
    match now.state:
        case Backoff(until=until) | Failed(until=until) if time >= until:
            return _spawn(now, time)
        case _:
            return _settled(now, time, policy), ()


def _failed(
    now: Supervision, cause: Cause, time: float, policy: EnginePolicy, random: Callable[[], float]
) -> Supervision:
    since = time if now.failing_since is None else now.failing_since
    now = replace(now, failures=now.failures + 1, failing_since=since, cause=cause)
    looping = now.failures >= policy.crash_loop_failures and time - since >= policy.crash_loop_s
    if cause.permanent or now.looping or looping:
        return _enter(replace(now, looping=True), Failed(time + policy.failed_retry_s), time)
    longest = min(policy.first_backoff_s * 2.0 ** min(now.failures - 1, 60), policy.longest_backoff_s)
    return _enter(now, Backoff(time + longest * random()), time)


def _settled(now: Supervision, time: float, policy: EnginePolicy) -> Supervision:
    if isinstance(now.state, Serving) and time - now.since >= policy.stable_s and (now.failures or now.looping):
        return _cleared(now)
    return now


def _cleared(now: Supervision) -> Supervision:
    return replace(now, failures=0, failing_since=None, looping=False, cause=None)
