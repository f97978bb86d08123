"""Keeps the memory of a process that holds the key to itself: no core file, no debugger, no reading through /proc."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from plumised.errors import OperatorError

_PR_SET_DUMPABLE: Final = 4
"""Of <linux/prctl.h>."""


class MemoryExposedError(OperatorError):
    """The process cannot keep its memory to itself."""

    code = "memory-exposed"


def keep_memory_private() -> None:
    """Make this process non-dumpable and forbid core files, to it and to what it starts.

    Programs that it starts are dumpable again, as the kernel makes every executed program; they get no secret.

    Raises:
        MemoryExposedError: the system refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise MemoryExposedError(
            f"This process cannot be made non-dumpable: {os.strerror(ctypes.get_errno())}",
            "Run it on a system whose kernel and system call filter allow prctl(PR_SET_DUMPABLE).",
        )
