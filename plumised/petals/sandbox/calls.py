"""System calls that Python's library does not have."""

from __future__ import annotations

import ctypes
import os
from typing import Final


class SandboxError(Exception):
    """A layer of the sandbox cannot be had. The message says why.

    Attributes:
        number: the kernel's error number; 0 where it is not the kernel that refuses.
    """

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


_CAPABILITY_VERSION: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 of <linux/capability.h>."""

_libc: Final = ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments: object) -> int:
    """Make a system call and return its result.

    Raises:
        SandboxError: it failed.
    """
    converted = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _result(int(_libc.syscall(ctypes.c_long(number), *converted)))


def prctl(option: int, value: int) -> None:
    """Change an attribute of this process; one argument, the rest 0.

    Raises:
        SandboxError: it failed.
    """
    _result(int(_libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3)))


class _Capabilities(ctypes.Structure):
    """`struct __user_cap_data_struct`; two of them hold the 64 bits of each set, the lower ones first."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_capabilities(kept: int) -> None:
    """Give up all capabilities but these, in every set of this thread (capset(2)).

    Raises:
        SandboxError: it failed.
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (_Capabilities * 2)()
    _result(int(_libc.capget(header, sets)))
    surplus = False
    for half, each in enumerate(sets):
        bits = kept >> 32 * half & 0xFFFFFFFF
        surplus |= bool((each.effective | each.permitted | each.inheritable) & ~bits)
        each.effective &= bits
        each.permitted &= bits
        each.inheritable &= bits
    # Who has none need not be allowed to give any up: a unit's filter may well forbid it.
    if surplus:
        _result(int(_libc.capset(header, sets)))


def _result(value: int) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise SandboxError(os.strerror(number), number)
    return value
