"""A filter of system calls (seccomp(2)): built as classic BPF by a pure function, and installed for good.

Where numbers have no source of their own, they are those of <linux/seccomp.h>, <linux/filter.h> and <linux/audit.h>.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from plumised.petals.sandbox.calls import SandboxError, system_call
from plumised.petals.sandbox.denials import When

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plumised.petals.sandbox.denials import Denial

MACHINE: Final = "x86_64"
"""The architecture, as uname(2) names it, whose numbers the denials have."""

_SECCOMP: Final = 317
_SET_MODE_FILTER: Final = 1
_FLAG_TSYNC: Final = 1
_FLAG_SPEC_ALLOW: Final = 4
"""Before Linux 5.16 a filter switched speculation off, too, which costs time and guards against nothing here."""

AUDIT_ARCH_X86_64: Final = 0xC000003E
ALLOW: Final = 0x7FFF0000
ERRNO: Final = 0x00050000

_OFFSET_NUMBER: Final = 0
_OFFSET_ARCH: Final = 4
_OFFSET_FIRST_ARGUMENT: Final = 16
"""Of the lower 32 bits, on a little-endian machine, in `struct seccomp_data`."""

_X32_BIT: Final = 0x40000000
"""Numbers of the x32 ABI have it: the same calls by other numbers (<asm/unistd.h>)."""

LOAD: Final = 0x20
JUMP_EQUAL: Final = 0x15
JUMP_AT_LEAST: Final = 0x35
JUMP_ANY_BIT: Final = 0x45
RETURN: Final = 0x06
"""BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ, …|BPF_JGE, …|BPF_JSET with BPF_K, BPF_RET|BPF_K."""


class Instruction(NamedTuple):
    """`struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    value: int


def program(denials: Iterable[Denial]) -> tuple[Instruction, ...]:
    """The filter that refuses these, every call of another architecture, and nothing else."""
    instructions = [
        Instruction(LOAD, 0, 0, _OFFSET_ARCH),
        Instruction(JUMP_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        _refuse(errno.EPERM),
        Instruction(LOAD, 0, 0, _OFFSET_NUMBER),
        Instruction(JUMP_AT_LEAST, 0, 1, _X32_BIT),
        _refuse(errno.EPERM),
    ]
    for denial in denials:
        part = _part(denial)
        instructions += [Instruction(JUMP_EQUAL, 0, len(part), denial.number), *part]
    return (*instructions, Instruction(RETURN, 0, 0, ALLOW))


def _part(denial: Denial) -> list[Instruction]:
    """What follows once the number is the denial's. It returns in any case."""
    argument = Instruction(LOAD, 0, 0, _OFFSET_FIRST_ARGUMENT)
    allow = Instruction(RETURN, 0, 0, ALLOW)
    match denial.when:
        case When.ALWAYS:
            return [_refuse(denial.error)]
        case When.ANY_BIT:
            (bits,) = denial.values
            return [argument, Instruction(JUMP_ANY_BIT, 0, 1, bits), _refuse(denial.error), allow]
        case When.NOT_AMONG:
            count = len(denial.values)
            tests = [Instruction(JUMP_EQUAL, count - place, 0, value) for place, value in enumerate(denial.values)]
            return [argument, *tests, _refuse(denial.error), allow]


def _refuse(error: int) -> Instruction:
    return Instruction(RETURN, 0, 0, ERRNO | error)


class _Filter(ctypes.Structure):
    """`struct sock_filter`."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Filter)))


def install(denials: Iterable[Denial]) -> None:
    """Refuse these from here on, in every thread of this process and in what it starts. Needs no_new_privs.

    Raises:
        SandboxError: nothing is refused.
    """
    if (machine := os.uname().machine) != MACHINE:
        raise SandboxError(f"the filter is made for {MACHINE}, this machine is {machine}")
    instructions = program(denials)
    filters = (_Filter * len(instructions))(*(_Filter(*each) for each in instructions))
    argument = _Program(len(instructions), ctypes.cast(filters, ctypes.POINTER(_Filter)))
    try:
        system_call(_SECCOMP, _SET_MODE_FILTER, _FLAG_TSYNC | _FLAG_SPEC_ALLOW, ctypes.byref(argument))
    except SandboxError as error:
        reasons = {
            errno.ENOSYS: "the kernel has no seccomp",
            errno.EINVAL: "the kernel has no seccomp filters, or only old ones",
            errno.EPERM: "a filter of system calls forbids seccomp",
        }
        raise SandboxError(reasons.get(error.number, f"seccomp: {error}"), error.number) from None
