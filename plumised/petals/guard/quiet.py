"""Keeps strangers from filling the log: a line for what is refused, and only so many of a kind."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from plumised.petals.guard.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("plumised.petals.guard")

_HOSTILE: Final = (Refusal, DecodeError)
"""Errors that only say what a peer has sent; where in our code that was noticed is of no interest."""
_OURS: Final = "plumised."
_BURST: Final = 20
_WITH_TRACEBACK: Final = 3
_PERIOD_S: Final = 60.0
_MOST_CHARACTERS: Final = 500


@dataclass(slots=True)
class _Period:
    began: float
    told: int = 0
    kept_back: int = 0


class Quiet(logging.Filter):
    """Lets at most 20 records a minute pass from each place in the code of others, 3 of them with a traceback.

    What is kept back is counted, and the next record that passes says how many there were. Our own records pass, except
    for those of refusals.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._periods: dict[tuple[str, int], _Period] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes; it is shortened where it says what a stranger did."""
        if record.name.startswith(_OURS) and record.name != logger.name:
            return True
        period = self._period(record)
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, _HOSTILE):
            record.exc_info = None
            record.msg = f"{record.getMessage()} {type(error).__name__}: {error}"[:_MOST_CHARACTERS]
            record.args = ()
        most = _BURST if record.exc_info is None else _WITH_TRACEBACK
        if period.told >= most:
            period.kept_back += 1
            return False
        period.told += 1
        if period.kept_back:
            record.msg = f"{record.getMessage()} ({period.kept_back} more of this kind were left out before)"
            record.args = ()
            period.kept_back = 0
        return True

    def _period(self, record: logging.LogRecord) -> _Period:
        """That of the place in the code; there are as many as there are places."""
        place, now = (record.pathname, record.lineno), self._clock()
        period = self._periods.setdefault(place, _Period(now))
        if now - period.began >= _PERIOD_S:
            period.began, period.told = now, 0
        return period


def keep_quiet() -> None:
    """Put the filter before everything that writes a log of this process, and of those that it forks."""
    quiet = Quiet()
    for name in ("", "hivemind"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(quiet)


def tell_refused(refusal: Refusal) -> None:
    """A line for what was refused before upstream has seen it."""
    logger.warning("A peer's request is refused: %s", refusal)
