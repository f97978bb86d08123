"""Keeps what forked processes have of their parent's memory shared, so that it is there once.

A collection of Python's garbage collector writes to every object that it looks at, and the page is copied. What is
frozen it does not look at.
"""

from __future__ import annotations

import ctypes
import gc


def settle() -> None:
    """To be called before the first fork, with everything imported: what is there stays for good."""
    release()
    gc.freeze()


def release() -> None:
    """Give unused memory back to the system; a process that is forked later would keep it."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def keep_inherited() -> None:
    """To be called by a forked process first of all: never collect what the parent has left."""
    gc.freeze()
