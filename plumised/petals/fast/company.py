"""Whether a pass over the weights waits for steps that are about to come; a pure decision.

Sessions that generate come back in a rhythm: a step is answered, the client makes a token of it, and the next step
comes. A pass costs little more with several steps than with one, so it pays to wait for those that are due; and once
they have gone together, they come back together. A session alone never waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

PATIENCE: Final = 3.0
"""The longest that a step waits for others, in passes. With eight sessions a pass had some 3.5 steps at 1, and 7 to 8
at 2 and 3; with clients that take longer for a token 3 is better than 2. Figures: docs/performance.md."""
MOST_SESSIONS: Final = 256
"""That are kept in mind; of more, those that came back longest ago are forgotten."""


@dataclass(frozen=True, slots=True)
class _Habit:
    """Of a session, in seconds.

    Attributes:
        span: that computes its steps; only steps of one span go together.
        answered_at: when its last step was answered; None while a step of it waits or is computed.
        absence_s: how long it was away before its last step; None before the second.
    """

    span: object
    answered_at: float | None
    absence_s: float | None


class Company:
    """What is known of the sessions of a worker. Times are of one monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._habits: dict[Hashable, _Habit] = {}
        self._patience_s = 0.0

    def came(self, session: Hashable, span: object, at: float) -> None:
        """A step of the session has come, for this span."""
        habit = self._habits.pop(session, None)
        answered_at = None if habit is None else habit.answered_at
        self._habits[session] = _Habit(span, None, None if answered_at is None else at - answered_at)
        while len(self._habits) > MOST_SESSIONS:
            del self._habits[next(iter(self._habits))]

    def answered(self, session: Hashable, at: float) -> None:
        """The session's step was answered."""
        if (habit := self._habits.pop(session, None)) is not None:
            self._habits[session] = _Habit(habit.span, at, habit.absence_s)

    def passed(self, seconds: float) -> None:
        """A pass with short steps has taken so long."""
        self._patience_s = PATIENCE * seconds

    def wait_until(self, span: object, since: float, now: float) -> float | None:
        """Until when a pass waits for more steps; None where nobody is due before that.

        Args:
            span: of the pass.
            since: when the oldest step that waits came.
            now: the time.
        """
        latest = since + self._patience_s
        if latest <= now:
            return None
        # Whoever is later than that may be gone.
        due = (
            habit.answered_at + habit.absence_s
            for habit in self._habits.values()
            if habit.span is span and habit.answered_at is not None and habit.absence_s is not None
        )
        return latest if any(now - self._patience_s <= at <= latest for at in due) else None
