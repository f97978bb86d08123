"""The filter of system calls, as the kernel would run it."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.petals.sandbox import seccomp
from plumised.petals.sandbox.denials import DENIALS, NEW_NAMESPACES, TRUNCATE, Denial, When
from plumised.petals.sandbox.seccomp import ALLOW, AUDIT_ARCH_X86_64, ERRNO, Instruction, program

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
MOST_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of <linux/bpf_common.h>."""
FORK_FLAGS = 0x01200011
"""What the C library's fork() asks of clone: CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID, SIGCHLD."""
THREAD_FLAGS = 0x003D0F00
"""What pthread_create() asks of it."""
AUDIT_ARCH_I386 = 0x40000003


def run(instructions: Sequence[Instruction], number: int, argument: int = 0, arch: int = AUDIT_ARCH_X86_64) -> int:
    """What the program returns for a call with this first argument."""
    data = {0: number, 4: arch, 16: argument & 0xFFFFFFFF}
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        match code:
            case seccomp.LOAD:
                accumulator = data[value]
            case seccomp.JUMP_EQUAL:
                position += if_true if accumulator == value else if_false
            case seccomp.JUMP_AT_LEAST:
                position += if_true if accumulator >= value else if_false
            case seccomp.JUMP_ANY_BIT:
                position += if_true if accumulator & value else if_false
            case seccomp.RETURN:
                return value
            case _:
                raise AssertionError(f"no instruction has the code {code:#x}")


def wanted(denials: Sequence[Denial], number: int, argument: int) -> int:
    """What the denials say, said in another way."""
    for denial in denials:
        if denial.number != number:
            continue
        match denial.when:
            case When.ALWAYS:
                return ERRNO | denial.error
            case When.ANY_BIT:
                return ERRNO | denial.error if argument & denial.values[0] else ALLOW
            case When.NOT_AMONG:
                return ALLOW if argument in denial.values else ERRNO | denial.error
    return ALLOW


FILTER = program((*DENIALS, TRUNCATE))


@given(st.integers(0, 500), st.one_of(st.integers(0, 50), st.integers(0, 2**32 - 1)))
def test_the_filter_does_what_the_table_says_and_nothing_else(number: int, argument: int) -> None:
    assert run(FILTER, number, argument) == wanted((*DENIALS, TRUNCATE), number, argument)


@given(st.integers(0, 500))
def test_calls_by_the_numbers_of_another_architecture_are_refused(number: int) -> None:
    assert run(FILTER, number, arch=AUDIT_ARCH_I386) == ERRNO | errno.EPERM
    assert run(FILTER, number | 0x40000000) == ERRNO | errno.EPERM


@pytest.mark.skipif(not NUMBERS.exists(), reason="the kernel's headers are not installed")
def test_the_numbers_are_the_kernels() -> None:
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", NUMBERS.read_text(encoding="utf-8")))
    assert {denial.name: denial.number for denial in (*DENIALS, TRUNCATE)} == {
        denial.name: int(known[denial.name]) for denial in (*DENIALS, TRUNCATE)
    }


def test_no_call_is_told_twice_and_each_has_its_reason() -> None:
    assert len({denial.number for denial in (*DENIALS, TRUNCATE)}) == len(DENIALS) + 1
    assert all(denial.reason for denial in (*DENIALS, TRUNCATE))


def test_processes_and_threads_are_made_as_ever_and_namespaces_are_not() -> None:
    clone = next(denial.number for denial in DENIALS if denial.name == "clone")
    assert run(FILTER, clone, FORK_FLAGS) == ALLOW
    assert run(FILTER, clone, THREAD_FLAGS) == ALLOW
    for bit in range(32):
        if NEW_NAMESPACES >> bit & 1:
            assert run(FILTER, clone, FORK_FLAGS | 1 << bit) == ERRNO | errno.EPERM


def test_the_c_library_is_told_that_there_is_no_clone3_so_that_it_uses_clone() -> None:
    clone3 = next(denial.number for denial in DENIALS if denial.name == "clone3")
    assert run(FILTER, clone3) == ERRNO | errno.ENOSYS


@pytest.mark.parametrize(
    ("family", "allowed"),
    [
        (socket.AF_UNIX, True),
        (socket.AF_INET, True),
        (socket.AF_INET6, True),
        (socket.AF_NETLINK, True),
        (socket.AF_PACKET, False),
        (socket.AF_VSOCK, False),
        (socket.AF_ALG, False),
    ],
)
def test_sockets_are_made_of_the_families_that_the_swarm_takes(family: int, allowed: bool) -> None:
    number = next(denial.number for denial in DENIALS if denial.name == "socket")
    assert run(FILTER, number, family) == (ALLOW if allowed else ERRNO | errno.EAFNOSUPPORT)


def test_the_kernel_takes_a_filter_of_this_length() -> None:
    assert len(FILTER) < MOST_INSTRUCTIONS
    assert all(instruction.if_true < 256 and instruction.if_false < 256 for instruction in FILTER)
