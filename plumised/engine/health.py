"""Whether the engine makes progress. Pure: what was observed goes in, a verdict comes out.

A part of the engine is stuck when its counter stands still and its processes do not work meanwhile; one that works is
busy and left alone, up to a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from plumised.ipc.messages import Phase

if TYPE_CHECKING:
    from plumised.engine.policy import EnginePolicy


@dataclass(frozen=True, slots=True)
class Healthy:
    """Everything answers."""


@dataclass(frozen=True, slots=True)
class Busy:
    """A part does not answer, but works.

    Attributes:
        component: which part: `main`, `runtime`, `dht`, `p2pd` or `handler-N`.
        since: when it last answered.
    """

    component: str
    since: float


class Ailment(StrEnum):
    """What is wrong with a part that will not recover."""

    DEAD = "dead"
    IDLE = "idle"
    SPINNING = "spinning"
    ABSENT = "absent"
    NO_PROGRESS = "no-progress"


@dataclass(frozen=True, slots=True)
class Stuck:
    """The engine will not serve again by itself.

    Attributes:
        component: which part.
        since: when it last answered.
        ailment: `dead`: its process ended; `idle`: it neither answers nor works; `spinning`: it works without end and
            without result; `absent`: it never came; `no-progress`: the start does not get on.
    """

    component: str
    since: float
    ailment: Ailment


Verdict = Healthy | Busy | Stuck


@dataclass(frozen=True, slots=True)
class Part:
    """What was observed of one part of the engine.

    Attributes:
        name: `main`, `runtime`, `dht`, `p2pd` or `handler-N`.
        silent_s: how long its counter stands still, not counting time in which nobody could report it.
        idle_s: how long its processes have not been seen working.
        dead: its process has ended.
    """

    name: str
    silent_s: float
    idle_s: float
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Vitals:
    """What was observed of an engine, at times of one monotonic clock.

    Attributes:
        now: the time of the verdict.
        phase: of its main process; None before it said any.
        progress_at: when the start last got on: another phase, another block, another megabyte.
        parts: the parts that have been heard of, the main process among them.
        absent: handlers that ought to be there, with the time since which they are missed.
    """

    now: float
    phase: Phase | None
    progress_at: float
    parts: tuple[Part, ...]
    absent: tuple[tuple[str, float], ...] = ()


def judge(vitals: Vitals, policy: EnginePolicy) -> Verdict:
    """The verdict; of several ailments the worst: dead, then stuck, then absent, then busy."""
    if vitals.phase in {Phase.DRAINING, Phase.STOPPED}:
        # Parts end one after another, which is no ailment; that it never comes to an end is.
        late = vitals.now - vitals.progress_at >= policy.stop_timeout_s
        return Stuck("main", vitals.progress_at, Ailment.NO_PROGRESS) if late else Healthy()
    for part in vitals.parts:
        if part.dead:
            return Stuck(part.name, vitals.now - part.silent_s, Ailment.DEAD)
    if vitals.phase is not Phase.ONLINE:
        return _judge_start(vitals, policy)
    verdicts = [_judge_part(part, vitals.now, policy.stuck_s, policy) for part in vitals.parts]
    verdicts += [
        Stuck(name, since, Ailment.ABSENT) for name, since in vitals.absent if vitals.now - since >= policy.absent_s
    ]
    return _worst(verdicts)


def _judge_start(vitals: Vitals, policy: EnginePolicy) -> Verdict:
    if vitals.now - vitals.progress_at >= policy.start_timeout_s:
        return Stuck("main", vitals.progress_at, Ailment.NO_PROGRESS)
    # The other parts come to life one after another; the limit on progress covers them.
    return _worst(
        [_judge_part(part, vitals.now, policy.starting_stuck_s, policy) for part in vitals.parts if part.name == "main"]
    )


def _judge_part(part: Part, now: float, stuck_s: float, policy: EnginePolicy) -> Verdict:
    since = now - part.silent_s
    if part.silent_s < stuck_s:
        return Healthy()
    if part.idle_s >= stuck_s:
        return Stuck(part.name, since, Ailment.IDLE)
    if part.silent_s >= policy.busy_limit_s:
        return Stuck(part.name, since, Ailment.SPINNING)
    return Busy(part.name, since)


def _worst(verdicts: list[Verdict]) -> Verdict:
    for kind in (Stuck, Busy):
        found = [verdict for verdict in verdicts if isinstance(verdict, kind)]
        if found:
            return found[0]
    return Healthy()
