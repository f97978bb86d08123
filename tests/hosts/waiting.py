"""Waiting for a condition, with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_PAUSE_S = 0.1


def wait_until(what: str, condition: Callable[[], T], timeout_s: float, pause_s: float = _PAUSE_S) -> T:
    """Ask until the condition's answer is true, and return it. Longer pauses spare the machine.

    Raises:
        TimeoutError: it never was; `what` and the last answer are in the message.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}; last seen: {answer!r}")
        time.sleep(pause_s)
