"""Which system calls the engine is refused, and why. Nothing that Petals, torch or libp2p use is among them.

Numbers are those of x86-64 (<asm/unistd_64.h>).
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from enum import Enum
from typing import Final


class When(Enum):
    """What about the lower 32 bits of the first argument has the call refused."""

    ALWAYS = "always"
    ANY_BIT = "any of the given bits is set"
    NOT_AMONG = "it is none of the given values"


@dataclass(frozen=True, slots=True)
class Denial:
    """One system call that is refused.

    Attributes:
        name: of the call.
        number: of the call.
        reason: why nobody misses it.
        when: on which first argument it depends.
        values: what `when` speaks of.
        error: what the caller gets.
    """

    name: str
    number: int
    reason: str
    when: When = When.ALWAYS
    values: tuple[int, ...] = ()
    error: int = errno.EPERM


NEW_NAMESPACES: Final = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET of <linux/sched.h>."""

_CALLS: Final = (
    (
        "looks into other processes, or takes their descriptors",
        {
            "ptrace": 101,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kcmp": 312,
            "pidfd_getfd": 438,
            "process_madvise": 440,
        },
    ),
    (
        "changes what paths mean",
        {
            "pivot_root": 155,
            "chroot": 161,
            "mount": 165,
            "umount2": 166,
            "open_tree": 428,
            "move_mount": 429,
            "fsopen": 430,
            "fsconfig": 431,
            "fsmount": 432,
            "fspick": 433,
            "mount_setattr": 442,
            "unshare": 272,
            "setns": 308,
        },
    ),
    ("opens files without a path", {"open_by_handle_at": 304}),
    (
        "is a way around filters and rules that faults of the kernel have opened before",
        {
            "bpf": 321,
            "userfaultfd": 323,
            "io_uring_setup": 425,
            "io_uring_enter": 426,
            "io_uring_register": 427,
        },
    ),
    ("measures what other processes do", {"perf_event_open": 298, "fanotify_init": 300, "lookup_dcookie": 212}),
    (
        "keeps keys in the kernel, shared by all processes of a user",
        {"add_key": 248, "request_key": 249, "keyctl": 250},
    ),
    (
        "changes the kernel or the machine",
        {
            "kexec_load": 246,
            "kexec_file_load": 320,
            "init_module": 175,
            "finit_module": 313,
            "delete_module": 176,
            "reboot": 169,
            "swapon": 167,
            "swapoff": 168,
            "acct": 163,
            "syslog": 103,
            "quotactl": 179,
            "quotactl_fd": 443,
            "sethostname": 170,
            "setdomainname": 171,
            "vhangup": 153,
            "iopl": 172,
            "ioperm": 173,
        },
    ),
    (
        "sets the clock",
        {"adjtimex": 159, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305},
    ),
    (
        "serves programs of another age or architecture",
        {"personality": 135, "uselib": 134, "modify_ldt": 154, "ustat": 136, "sysfs": 139, "nfsservctl": 180},
    ),
)

DENIALS: Final = (
    *(Denial(name, number, reason) for reason, calls in _CALLS for name, number in calls.items()),
    Denial("clone", 56, "a new namespace changes what paths and users mean", When.ANY_BIT, (NEW_NAMESPACES,)),
    # A filter cannot see into the structure that it takes; the C library falls back to clone.
    Denial("clone3", 435, "hides the namespaces that it makes from this filter", error=errno.ENOSYS),
    Denial(
        "socket",
        41,
        "other families lead into parts of the kernel that are seldom looked at",
        When.NOT_AMONG,
        (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK),
        errno.EAFNOSUPPORT,
    ),
    Denial("prlimit64", 302, "changes the limits of another process", When.NOT_AMONG, (0,)),
)
"""What is refused whatever else the kernel has."""

TRUNCATE: Final = Denial("truncate", 76, "cuts files by path, which Landlock does not see before ABI 3")
"""What Landlock leaves open on older kernels."""
