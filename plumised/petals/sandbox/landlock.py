"""Landlock: which files this process, and all that it starts, may use from here on (landlock(7)).

The numbers are those of <linux/landlock.h>; each ABI is the kernel's word for what it knows.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plumised.petals.sandbox.calls import SandboxError, system_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
"""System call numbers, the same on every architecture that Debian 12 has (<asm-generic/unistd.h>)."""

_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_DIR: Final = 1 << 4
REMOVE_FILE: Final = 1 << 5
MAKE_CHAR: Final = 1 << 6
MAKE_DIR: Final = 1 << 7
MAKE_REG: Final = 1 << 8
MAKE_SOCK: Final = 1 << 9
MAKE_FIFO: Final = 1 << 10
MAKE_BLOCK: Final = 1 << 11
MAKE_SYM: Final = 1 << 12
REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
IOCTL_DEV: Final = 1 << 15

SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
SCOPE_SIGNAL: Final = 1 << 1

_ON_FILES: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""The rights that a rule about a single file may give."""

NEWEST_ABI: Final = 6
"""The newest ABI that this module has a use for: 1 came with Linux 5.13, 2 with 5.19, 3 with 6.2, 5 with 6.10, 6 with
6.12. What 4 added is about TCP ports, which cannot tell a stranger from a neighbour; 7 is about the audit log."""


class Use(Enum):
    """What is done with a file, or with all below a directory. The value is the rights that it takes."""

    LIST = READ_DIR
    READ = READ_FILE | READ_DIR
    RUN = READ_FILE | READ_DIR | EXECUTE
    KEEP = (
        READ_FILE
        | READ_DIR
        | WRITE_FILE
        | TRUNCATE
        | REFER
        | REMOVE_DIR
        | REMOVE_FILE
        | MAKE_DIR
        | MAKE_REG
        | MAKE_SOCK
        | MAKE_FIFO
        | MAKE_SYM
    )
    DEVICE = READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV


@dataclass(frozen=True, slots=True)
class Grant:
    """One exception from "nothing".

    Attributes:
        path: absolute; a symbolic link stands for what it points to.
        use: what may be done there.
    """

    path: str
    use: Use


@dataclass(frozen=True, slots=True)
class Handled:
    """What a ruleset is about.

    Attributes:
        files: the rights that are denied where no rule gives them.
        scoped: what the process may reach only in processes that are as restricted as itself.
    """

    files: int
    scoped: int


def handled(abi: int) -> Handled:
    """All that a kernel with this ABI can restrict and that is of use here."""
    newest_right = {1: MAKE_SYM, 2: REFER, 3: TRUNCATE, 4: TRUNCATE}.get(abi, IOCTL_DEV)
    return Handled(2 * newest_right - 1, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if abi >= NEWEST_ABI else 0)


def rights(use: Use, what: Handled, *, directory: bool) -> int:
    """The rights that a rule gives."""
    return use.value & what.files & (-1 if directory else _ON_FILES)


class _RulesetAttr(ctypes.Structure):
    """`struct landlock_ruleset_attr`; older kernels know a beginning of it."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    """`struct landlock_path_beneath_attr`."""

    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def kernel_abi() -> int:
    """The kernel's ABI of Landlock.

    Raises:
        SandboxError: it has none, or none that is switched on.
    """
    try:
        return system_call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except SandboxError as error:
        reasons = {
            errno.ENOSYS: "the kernel has no Landlock",
            errno.EOPNOTSUPP: "Landlock is switched off in the kernel (the boot parameter lsm=)",
            errno.EPERM: "a filter of system calls forbids landlock_create_ruleset",
        }
        raise SandboxError(reasons.get(error.number, f"landlock_create_ruleset: {error}"), error.number) from None


def restrict(grants: Iterable[Grant], newest: int) -> int:
    """From here on have this thread, and what it starts, use files as granted and in no other way. Needs no_new_privs.

    A grant for what does not exist, or may not be looked at anyway, gives nothing.

    Args:
        grants: the exceptions.
        newest: the kernel's ABI.

    Returns:
        The ABI that is in force: some kernels have less than the one that they name.

    Raises:
        SandboxError: it is not restricted.
    """
    if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
        raise SandboxError(f"{threads} threads run already, and it would hold one of them only")
    abi, ruleset = _create(min(newest, NEWEST_ABI))
    try:
        what = handled(abi)
        for grant in grants:
            with _looked_up(grant.path) as (descriptor, directory):
                if descriptor >= 0 and (allowed := rights(grant.use, what, directory=directory)):
                    rule = _PathBeneathAttr(allowed, descriptor)
                    system_call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _create(abi: int) -> tuple[int, int]:
    """A ruleset and its ABI: the newest up to this one that the kernel takes."""
    while True:
        what = handled(abi)
        attributes = _RulesetAttr(what.files, 0, what.scoped)
        size = ctypes.sizeof(attributes) if what.scoped else ctypes.sizeof(ctypes.c_uint64)
        try:
            return abi, system_call(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
        except SandboxError as error:
            if abi == 1 or error.number not in {errno.EINVAL, errno.E2BIG}:
                raise
            abi -= 1


@contextlib.contextmanager
def _looked_up(path: str) -> Iterator[tuple[int, bool]]:
    """A descriptor that names the file, and whether it is a directory; -1 if it cannot be had."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        yield -1, False
        return
    try:
        yield descriptor, stat.S_ISDIR(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
