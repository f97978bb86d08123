"""What an engine that was taken over would try. Standard library only: it runs in the engine's own process.

Every attempt gives the name of the error that stopped it, or `done`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DONE: Final = "done"
MARK: Final = "ESCAPES "
"""Begins the line in which an engine tells how its attempts went."""

_libc: Final = ctypes.CDLL(None, use_errno=True)
_PTRACE: Final = 101
_PTRACE_ATTACH: Final = 16
_PTRACE_DETACH: Final = 17
_PTRACE_SEIZE: Final = 0x4206
_CLONE_NEWUSER: Final = 0x10000000
_NUMBERS: Final = {
    "bpf": 321,
    "io_uring_setup": 425,
    "keyctl": 250,
    "mount": 165,
    "perf_event_open": 298,
    "setns": 308,
    "userfaultfd": 323,
}


@dataclass(frozen=True)
class Targets:
    """What is tried on.

    Attributes:
        secrets: files that the engine must not read.
        directories: where it must not write.
        daemon: a process that it must not touch.
        own: a directory in which it may write.
        control_socket: that it must not get an answer from; empty for none.
        abstract: name of an abstract unix socket on which somebody outside listens; empty for none.
    """

    secrets: Sequence[str]
    directories: Sequence[str]
    daemon: int
    own: str
    control_socket: str = ""
    abstract: str = ""


def outcome(attempt: Callable[..., object], *arguments: object) -> str:
    """How an attempt went."""
    try:
        attempt(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return DONE


def attempts(targets: Targets) -> dict[str, str]:
    """How every attempt went, by a name that says what was tried."""
    return {
        **_reading(targets),
        **_writing(targets),
        **_touching(targets.daemon),
        **_connecting(targets),
        **_calling(),
        **_children(targets),
    }


def circumstances() -> dict[str, object]:
    """What this process was given: variables, descriptors, limits."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    descriptors = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            descriptors.append((int(entry.name), str(entry.readlink())))
        except FileNotFoundError:
            continue  # of this very listing
    return {
        "variables": sorted(os.environ),
        "descriptors": sorted(descriptors),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "no_new_privileges": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
    }


def _reading(targets: Targets) -> Mapping[str, str]:
    found = {}
    for secret in targets.secrets:
        link = Path(targets.own, "link")
        link.unlink(missing_ok=True)
        link.symlink_to(secret)
        ways = {
            "read": secret,
            "read by /proc/self/root": f"/proc/self/root{secret}",
            "read by the daemon's root": f"/proc/{targets.daemon}/root{secret}",
            "read by ..": f"{targets.own}/../../../../../..{secret}",
            "read by a link": str(link),
        }
        for how, path in ways.items():
            found[f"{how}: {secret}"] = outcome(Path(path).read_bytes)
        found[f"link anew: {secret}"] = outcome(os.link, secret, f"{targets.own}/copy")
        found[f"take: {secret}"] = outcome(Path(secret).rename, f"{targets.own}/copy")
    return found


def _writing(targets: Targets) -> Mapping[str, str]:
    found = {}
    for secret in targets.secrets:
        found[f"append: {secret}"] = outcome(_open, secret, os.O_WRONLY | os.O_APPEND)
        found[f"truncate: {secret}"] = outcome(os.truncate, secret, 0)
        found[f"open and truncate: {secret}"] = outcome(_open, secret, os.O_RDONLY | os.O_TRUNC)
        found[f"remove: {secret}"] = outcome(Path(secret).unlink)
    for directory in targets.directories:
        found[f"list: {directory}"] = outcome(os.scandir, directory)
        found[f"create in: {directory}"] = outcome(
            lambda directory=directory: Path(directory, "new").touch(exist_ok=False)
        )
        found[f"make directory in: {directory}"] = outcome(Path(directory, "dir").mkdir)
    found["create in its own"] = outcome(lambda: Path(targets.own, "mine").write_text("mine"))
    return found


def _open(path: str, flags: int) -> None:
    os.close(os.open(path, flags, 0o600))


def _touching(daemon: int) -> Mapping[str, str]:
    ways: dict[str, Callable[[], object]] = {
        "memory": lambda: Path(f"/proc/{daemon}/mem").open("rb").close(),
        "environment": lambda: Path(f"/proc/{daemon}/environ").read_bytes(),
        "map": lambda: Path(f"/proc/{daemon}/maps").read_bytes(),
        "descriptors": lambda: Path(f"/proc/{daemon}/fd/0").readlink(),
        "ptrace attach": lambda: _trace(_PTRACE_ATTACH, daemon),
        "ptrace seize": lambda: _trace(_PTRACE_SEIZE, daemon),
        "process_vm_readv": lambda: _read_memory(daemon),
        "signal": lambda: os.kill(daemon, 0),
        "signal by descriptor": lambda: _signal_by_descriptor(daemon),
        "limits": lambda: resource.prlimit(daemon, resource.RLIMIT_NOFILE, (64, 64)),
        "take a descriptor": lambda: _call(438, os.pidfd_open(daemon), 0, 0),
    }
    return {f"the daemon's {what}": outcome(way) for what, way in ways.items()}


def _trace(request: int, pid: int) -> None:
    _call(_PTRACE, request, pid, 0, 0)
    os.waitpid(pid, 0)
    _call(_PTRACE, _PTRACE_DETACH, pid, 0, 0)


def _read_memory(pid: int) -> None:
    buffer = ctypes.create_string_buffer(8)
    # struct iovec, ours and theirs; the address does not matter where the call itself is refused
    vector = ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(buffer), 8))
    _call(310, pid, vector, 1, vector, 1, 0)


def _signal_by_descriptor(pid: int) -> None:
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, 0)
    finally:
        os.close(descriptor)


def _connecting(targets: Targets) -> Mapping[str, str]:
    def ask() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(targets.control_socket)
            connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: plumised\r\nConnection: close\r\n\r\n")
            if not connection.recv(100).startswith(b"HTTP/1.1 200 "):
                raise ConnectionRefusedError(errno.ECONNREFUSED, "turned away")

    def reach() -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"\0{targets.abstract}")

    found = {}
    if targets.control_socket:
        found["ask the control socket"] = outcome(ask)
    if targets.abstract:
        found["an abstract socket"] = outcome(reach)
    for name, family in {"packet": socket.AF_PACKET, "vsock": socket.AF_VSOCK, "crypto": socket.AF_ALG}.items():
        found[f"a {name} socket"] = outcome(
            socket.socket, family, socket.SOCK_SEQPACKET if family == socket.AF_ALG else socket.SOCK_DGRAM
        )
    return found


def _calling() -> Mapping[str, str]:
    found = {name: outcome(_call, number, 0, 0, 0, 0, 0) for name, number in _NUMBERS.items()}
    found["unshare"] = outcome(lambda: _call(272, _CLONE_NEWUSER))
    found["clone with a namespace"] = outcome(lambda: _clone_away(_CLONE_NEWUSER | signal.SIGCHLD))
    return found


def _clone_away(flags: int) -> None:
    # It keeps the interpreter's lock, which nobody would give the child.
    pid = int(
        ctypes.PyDLL(None, use_errno=True).syscall(ctypes.c_long(56), ctypes.c_long(flags), *(ctypes.c_long(0),) * 4)
    )
    if pid == 0:
        os._exit(0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.waitpid(pid, 0)


def _children(targets: Targets) -> Mapping[str, str]:
    secret = targets.secrets[0]
    read_end, write_end = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        os.write(write_end, outcome(lambda: Path(secret).read_bytes()).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    forked = os.read(read_end, 100).decode()
    started = subprocess.run(["/bin/cat", secret], capture_output=True, check=False, env={"LC_ALL": "C"})
    program = Path(targets.own, "program")
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o700)
    return {
        "read in a fork": forked,
        "read by a program": DONE if started.returncode == 0 else started.stderr.decode().rpartition(": ")[2].strip(),
        "run what it wrote": outcome(lambda: subprocess.run([program], check=True)),
    }


def _call(number: int, *arguments: object) -> int:
    converted = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
