"""Processes as the kernel shows them: who belongs to an engine, what they consume, and how they are ended.

A pid alone names nobody, since pids are used again. A process is known by its pid and start time together; what
belongs to an engine is known by its session, and by the incarnation in its environment where it left the session.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plumised.engine.errors import UnseenError
from plumised.errors import NO_DESCRIPTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

INCARNATION_VARIABLE: Final = "PLUMISED_INCARNATION"
"""Environment variable by which the engine's processes, and whatever they start, are told from all others."""

OOM_SCORE_ADJ: Final = 300
"""Of the engine, see proc_pid_oom_score_adj(5): as if it had 30 % of the machine's memory more than it has."""

_PR_SET_CHILD_SUBREAPER: Final = 36
"""linux/prctl.h"""

_POLL_S: Final = 0.02
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told from every earlier and later one with the same pid.

    Attributes:
        pid: process id.
        start_time: clock ticks from boot to its start.
    """

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What proc(5) says of a process at one moment.

    Attributes:
        id: which process.
        name: of its executable or thread, at most 15 characters.
        state: `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (ended, not reaped), …
        parent: its parent's pid.
        session: its session's id.
        cpu_s: seconds of CPU that all its threads used, in user and kernel mode.
        io_bytes: bytes that it had read from and written to storage; 0 where that cannot be read.
        threads: that it has; one that has ended still counts its first.
    """

    id: ProcessId
    name: str
    state: str
    parent: int
    session: int
    cpu_s: float
    io_bytes: int
    threads: int = 1

    @property
    def ended(self) -> bool:
        """Only its exit status is left."""
        # The state is that of the first thread, which the others may outlive.
        return self.state in {"Z", "X", "x"} and self.threads <= 1


@contextlib.contextmanager
def _looking() -> Iterator[None]:
    """Tell a process that cannot be looked at from one that is not there."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise UnseenError from error
        raise


def read_process(pid: int) -> ProcessStat | None:
    """What is known of a process; None if there is none.

    Raises:
        UnseenError: see there.
    """
    try:
        with _looking():
            text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses; nothing after it does.
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return ProcessStat(
        id=ProcessId(pid, int(fields[19])),
        name=head.partition("(")[2],
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        io_bytes=_io_bytes(pid),
        threads=int(fields[17]),
    )


def _io_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(": ") for line in lines)
    return int(values["read_bytes"]) + int(values["write_bytes"])


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid at the moment."""
    process = read_process(pid)
    return process.id if process else None


def engine_processes(session: int | None, incarnation: str) -> tuple[ProcessStat, ...]:
    """Every process of an engine, ended but unreaped ones included.

    Args:
        session: pid of the engine's main process, which leads the session; None if that pid may name another process
            by now, so that only the environment tells.
        incarnation: what `INCARNATION_VARIABLE` was set to when it was started.

    Raises:
        UnseenError: see there.
        ValueError: the session is the caller's own or the kernel's.
    """
    if session is not None and (session <= 1 or session == os.getsid(0)):
        raise ValueError(f"session {session} is no engine's")
    marker = f"{INCARNATION_VARIABLE}={incarnation}".encode()
    found: list[ProcessStat] = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            process = read_process(pid)
            if process and (process.session == session or marker in environment_of(process.id.pid)):
                found.append(process)
    return tuple(found)


def session_processes(session: int) -> tuple[ProcessStat, ...]:
    """The processes that are in a session; cheaper than `engine_processes`, and enough for one that runs.

    Raises:
        UnseenError: see there.
    """
    found: list[ProcessStat] = []
    for pid in _pids():
        with contextlib.suppress(ProcessLookupError):
            process = read_process(pid) if os.getsid(pid) == session else None
            if process is not None:
                found.append(process)
    return tuple(found)


def _pids() -> list[int]:
    with _looking():
        return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdecimal()]


def environment_of(pid: int) -> list[bytes]:
    """The variables that a process was started with, as `NAME=value`; none if they cannot be read."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def send_signal(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False if it has ended.

    Raises:
        UnseenError: see there.
    """
    try:
        with _looking():
            descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor holds on to one process; if its start time is right, no other can get the signal.
        if identify(process.pid) != process:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def become_subreaper() -> None:
    """Have the orphans of this process's descendants become its children, so that it can see and reap them.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def kill_all(session: int | None, incarnation: str) -> tuple[ProcessStat, ...]:
    """SIGKILL every process of an engine; returns those that had not ended yet. It does not wait."""
    return _kill(engine_processes(session, incarnation))


def _kill(processes: Iterable[ProcessStat]) -> tuple[ProcessStat, ...]:
    living = tuple(process for process in processes if not process.ended)
    for process in living:
        send_signal(process.id, signal.SIGKILL)
    return living


def _reap(processes: Iterable[ProcessId], main: int) -> None:
    """Take the exit status of those that have ended and became our children, except of the main process."""
    for process in processes:
        found = read_process(process.pid)
        if found and found.id == process and found.ended and found.parent == os.getpid() and process.pid != main:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


async def end_all(
    session: int | None, incarnation: str, main: int, deadline_s: float, clock: Callable[[], float]
) -> tuple[ProcessStat, ...]:
    """Kill an engine's processes until none is left, those that start meanwhile included.

    Args:
        session: see `engine_processes`.
        incarnation: see `engine_processes`.
        main: pid that somebody else reaps; 0 for none.
        deadline_s: seconds after which it gives up.
        clock: monotonic seconds.

    Returns:
        What could not be ended: processes that the kernel holds in an uninterruptible call.

    Raises:
        UnseenError: it could not be seen until the deadline what there is.
    """
    until = clock() + deadline_s
    known: set[ProcessId] = set()
    while True:
        try:
            # What has ended shows its environment no more, so it must be known from before.
            found = engine_processes(session, incarnation)
            known |= {process.id for process in found}
            living = _kill(found)
        except UnseenError:
            if clock() >= until:
                raise
        else:
            if not living:
                break
            if clock() >= until:
                return living
        await asyncio.sleep(_POLL_S)
    _reap(known, main)
    return ()


def offer_to_oom_killer(pid: int) -> None:
    """Have the kernel, where memory runs out, kill this process and what it starts before others of its size."""
    # Without /proc, or where a sandbox keeps us from it, size alone decides, and the engine is the largest anyway.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(f"{OOM_SCORE_ADJ}\n", encoding="ascii")


def oom_kills(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """How many processes of this process's control group the kernel killed for want of memory; 0 if it does not say.

    The memory controller may be in either version of control groups, whatever the other one has.
    """
    try:
        groups = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return 0
    counters = [
        root / "memory" / group.lstrip("/") / "memory.oom_control"
        if "memory" in controllers.split(",")
        else root / group.lstrip("/") / "memory.events"
        for _, controllers, group in groups
        if controllers == "" or "memory" in controllers.split(",")
    ]
    return sum(_oom_kills(counter) for counter in counters)


def _oom_kills(counter: Path) -> int:
    try:
        lines = counter.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
