"""Ties the life of a process to its parent's, in the kernel, so that no death of a parent leaves it behind."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_NAME_BYTES = 15
_KILL_TIMEOUT_S = 2.0


def die_with_parent(parent: int, death_signal: signal.Signals) -> None:
    """Have the kernel send `death_signal` to this process once the thread that started it is gone.

    Args:
        parent: pid of the process that is expected to be the parent; if it is gone already, the signal is sent at once.
        death_signal: SIGINT where an ordered stop makes sense, else SIGKILL.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent:
        os.kill(os.getpid(), death_signal)


def name_process(name: str) -> None:
    """Give this process the name that ps and top show (15 bytes at most)."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:_NAME_BYTES], 0, 0, 0)


def fall_silent() -> None:
    """Write nothing more to standard output and standard error, from any thread."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def kill_children() -> None:
    """End the processes that multiprocessing has started from this one, at once; theirs end with them."""
    children = multiprocessing.active_children()
    for child in children:
        child.kill()
    for child in children:
        child.join(_KILL_TIMEOUT_S)
