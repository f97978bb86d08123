"""Keeps memory small: what forked processes share stays shared, and what work has taken is given back after it.

A collection of Python's garbage collector writes to every object that it looks at, and the page is copied. What is
frozen it does not look at.
"""

from __future__ import annotations

import ctypes
import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_BEATS: Final = 10
"""Beats without work, of a second each, after which a process has time to tidy up."""


def settle() -> None:
    """To be called before the first fork, with everything imported: what is there stays for good."""
    release()
    gc.freeze()


def release() -> None:
    """Give unused memory back to the system; a process that is forked later would keep it."""
    gc.collect()
    trim()


def trim() -> None:
    """Give memory back that the allocator keeps for later."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def keep_inherited() -> None:
    """To be called by a forked process first of all: never collect what the parent has left."""
    gc.freeze()


class IdleRelease:
    """Has a process give memory back once it has worked and then had nothing to do for `IDLE_BEATS`.

    The allocator keeps what it was given for caches and prompts: after eight sessions of 1 000 tokens 230 MB a node,
    which nobody used.

    Args:
        release: gives it back.
    """

    def __init__(self, release: Callable[[], None] = trim) -> None:
        self._release = release
        self._work = 0
        self._quiet = IDLE_BEATS

    def beat(self, work: int, *, busy: bool = False) -> None:
        """To be called about once a second.

        Args:
            work: what the process has done so far, in any unit.
            busy: whether it is at something.
        """
        if busy or work != self._work:
            self._work, self._quiet = work, 0
            return
        if self._quiet < IDLE_BEATS:
            self._quiet += 1
            if self._quiet == IDLE_BEATS:
                self._release()
