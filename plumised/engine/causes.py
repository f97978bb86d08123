"""Why an engine ended, said so that an operator can act on it. Pure.

The engine's own account comes first, then what the supervisor did to it and what the kernel says, then what its last
lines betray, then the bare exit status. docs/reasons.md lists the codes.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plumised.engine.health import Ailment, Stuck
from plumised.errors import EXIT_CONFIG

if TYPE_CHECKING:
    from plumised.ipc.messages import Failure


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an engine failed.

    Attributes:
        code: stable kebab-case identifier.
        message: what happened.
        remedy: what the operator can do.
        permanent: whether starting again unchanged cannot help.
        evidence: the lines that tell, or the last lines that it printed.
    """

    code: str
    message: str
    remedy: str
    permanent: bool = False
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How an engine ended.

    Attributes:
        status: exit status of its main process; negative is the signal that ended it, as in `subprocess`.
        failure: what the engine said of it.
        verdict: for which the supervisor ended it.
        oom_killed: whether the kernel killed a process of the daemon's control group for want of memory meanwhile.
        lines: its last lines.
    """

    status: int
    failure: Failure | None = None
    verdict: Stuck | None = None
    oom_killed: bool = False
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Pattern:
    expression: re.Pattern[str]
    code: str
    message: str
    remedy: str
    permanent: bool = False


def _pattern(expression: str, code: str, message: str, remedy: str, *, permanent: bool = False) -> _Pattern:
    return _Pattern(re.compile(expression, re.IGNORECASE), code, message, remedy, permanent)


_SHOWN: Final = 10

_PATTERNS: Final = (
    _pattern(
        r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "gpu-memory",
        "the GPU's memory does not hold the span and its caches",
        "Serve fewer blocks, lower engine.attention_cache_tokens, or use engine.quantization.",
    ),
    _pattern(
        r"DefaultCPUAllocator|Cannot allocate memory|\bMemoryError\b",
        "memory",
        "the machine's memory does not hold the span and its caches",
        "Serve fewer blocks, lower engine.attention_cache_tokens, or add memory.",
    ),
    _pattern(
        r"no kernel image is available|CUDA driver version is insufficient|NVIDIA driver on your system is too old"
        r"|no NVIDIA driver|Torch not compiled with CUDA enabled",
        "gpu-driver",
        "the engine's torch cannot use the GPU",
        'Install the driver that the engine\'s torch asks for, or set engine.device to "cpu".',
        permanent=True,
    ),
    _pattern(
        r"address already in use|failed to listen on any addresses",
        "port-taken",
        "another program has the port that the swarm is to be reached at",
        "Stop that program (`ss -ltnp` names it), or change swarm.listen; each node of a machine needs its own.",
    ),
    _pattern(
        r"No space left on device|Disk quota exceeded",
        "disk-full",
        "a disk that the engine writes to is full",
        "Make room, or lower engine.cache_limit_gb.",
    ),
    _pattern(
        r"No module named '?(torch|petals|hivemind|transformers|plumised)\b",
        "engine-environment",
        "the engine's Python environment lacks a package",
        "Install plumise-engine-petals of the same version again, and see that engine.python points into it.",
        permanent=True,
    ),
    _pattern(
        r"plumise-node and plumise-engine-petals must have the same version",
        "engine-version",
        "daemon and engine do not speak the same protocol",
        "Install the same version of plumise-node and plumise-engine-petals.",
        permanent=True,
    ),
    _pattern(
        r"error while loading shared libraries|cannot open shared object file|undefined symbol",
        "engine-environment",
        "the engine's Python environment does not fit to this system",
        "Install plumise-engine-petals of the same version again.",
        permanent=True,
    ),
    _pattern(
        r"Permission denied: '([^']+)'|PermissionError",
        "engine-permission",
        "the engine may not use a file that it needs",
        "Give the user that plumised runs as access to the file named in the last lines.",
    ),
)

_SILENT: Final = {
    Ailment.DEAD: ("{} ended", "engine-part-dead"),
    Ailment.IDLE: ("{} does not answer and does nothing", "engine-stuck"),
    Ailment.SPINNING: ("{} works without end and without result", "engine-spinning"),
    Ailment.ABSENT: ("{} never reported or lost its connection", "engine-part-absent"),
    Ailment.NO_PROGRESS: ("{} makes no progress in starting or ending", "engine-no-progress"),
}


def diagnose(end: Exit) -> Cause:
    """The cause of an end that nobody ordered."""
    if end.failure is not None:
        failure = end.failure
        return Cause(
            failure.code,
            failure.message,
            failure.remedy,
            permanent=failure.permanent or end.status == EXIT_CONFIG,
            evidence=end.lines[-_SHOWN:],
        )
    if end.oom_killed:
        return Cause(
            "oom-killed",
            "the kernel ended a process of the engine because memory ran out",
            "Serve fewer blocks, lower engine.attention_cache_tokens, or raise the unit's MemoryMax.",
            evidence=end.lines[-_SHOWN:],
        )
    if end.verdict is not None and end.verdict.ailment is not Ailment.NO_PROGRESS:
        return stuck(end.verdict, end.lines)
    told = _told_by(end.lines, permanent_exit=end.status == EXIT_CONFIG)
    if told is not None:
        return told
    if end.verdict is not None:
        return stuck(end.verdict, end.lines)
    return _bare(end)


def stuck(verdict: Stuck, lines: tuple[str, ...] = ()) -> Cause:
    """The cause when the supervisor ends an engine that is not healthy."""
    text, code = _SILENT[verdict.ailment]
    return Cause(
        code,
        text.format(verdict.component),
        "The engine is started again; if this comes back, look at its last lines and at the load of the machine.",
        evidence=lines[-_SHOWN:],
    )


def _told_by(lines: tuple[str, ...], *, permanent_exit: bool) -> Cause | None:
    for position in range(len(lines) - 1, -1, -1):
        for pattern in _PATTERNS:
            if pattern.expression.search(lines[position]):
                return Cause(
                    pattern.code,
                    pattern.message,
                    pattern.remedy,
                    permanent=pattern.permanent or permanent_exit,
                    evidence=lines[max(0, position - 2) : position + 3],
                )
    return None


def _bare(end: Exit) -> Cause:
    lines = end.lines[-_SHOWN:]
    if end.status == EXIT_CONFIG:
        return Cause(
            "engine-refused",
            "the engine refuses its settings",
            "Look at its last lines; change the configuration, then `systemctl restart plumised`.",
            permanent=True,
            evidence=lines,
        )
    if end.status < 0:
        return Cause(
            "engine-killed",
            f"signal {_signal_name(-end.status)} ended the engine",
            "Find out who sent it: the kernel's log, an operator, or a fault in a library of the engine.",
            evidence=lines,
        )
    if end.status == 0:
        return Cause(
            "engine-exited",
            "the engine ended without being asked to",
            "Look at its last lines; if it stays so, report it.",
            evidence=lines,
        )
    return Cause(
        "engine-crashed",
        f"the engine ended with status {end.status}",
        "Look at its last lines; if they do not help, report them.",
        evidence=lines,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
