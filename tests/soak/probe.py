"""What a node uses at a moment, as one JSON object; runs on the node's host, whose Python has nothing but the library.

    python3 - MAIN_PID UNIT STATE_DIR < probe.py

Memory is the proportional set size of anonymous and shared pages, over all processes of a part. A page that an engine
and the handlers forked from it share counts once, as it does for the machine; a resident set would count it in each.
Pages of files are left out, in which no leak can be: what a process has of them changes with whoever else on the
machine maps the same libraries. The memory that a control group accounts for has such pages and those of the disk's
cache, and does not tell daemon and engine apart.
"""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

_MEMORY = ("Pss_Anon:", "Pss_Shmem:")
_METRICS = "http://127.0.0.1:9464/metrics"
_METRICS_TIMEOUT_S = 2.0
_P2P = "p2pd"
_SHARED = Path("/dev/shm")  # noqa: S108 -- the place itself is what is looked at


@dataclass
class Part:
    """Daemon, engine or p2pd.

    Attributes:
        life: names its eldest process.
        memory: in bytes.
        descriptors, threads, processes: of all its processes.
    """

    life: str
    memory: int = 0
    descriptors: int = 0
    threads: int = 0
    processes: int = 0


@dataclass(frozen=True)
class Process:
    """One process; `started` is in clock ticks since boot."""

    pid: int
    name: str
    started: int
    memory: int
    descriptors: int
    threads: int


def members(unit: str) -> list[Path]:
    """The /proc directories of a unit's processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(group.endswith(f"/{unit}") for group in (place / "cgroup").read_text().splitlines()):
                found.append(place)
    return found


def measured(place: Path) -> Process | None:
    """One process; None where it ends meanwhile."""
    try:
        rollup = (place / "smaps_rollup").read_text().splitlines()
        name, fields = (place / "stat").read_text(errors="replace").split("(", 1)[1].rsplit(")", 1)
        return Process(
            pid=int(place.name),
            name=name,
            started=int(fields.split()[19]),
            memory=sum(int(line.split()[1]) * 1024 for line in rollup if line.startswith(_MEMORY)),
            descriptors=len(list((place / "fd").iterdir())),
            threads=int(fields.split()[17]),
        )
    except (FileNotFoundError, ProcessLookupError):
        return None


def parts(processes: list[Process], main: int) -> dict[str, Part]:
    """What the processes are parts of; `main` is the daemon's pid."""
    found: dict[str, Part] = {}
    for process in sorted(processes, key=lambda process: process.started):
        name = "daemon" if process.pid == main else "p2pd" if process.name == _P2P else "engine"
        part = found.setdefault(name, Part(f"{process.pid}:{process.started}"))
        part.memory += process.memory
        part.descriptors += process.descriptors
        part.threads += process.threads
        part.processes += 1
    return found


def size(place: Path) -> int:
    """Bytes of a file, or of all files below a directory; 0 where there is none."""
    total = 0
    for file in [place, *place.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size if file.is_file() else 0
    return total


def serving() -> bool:
    """Whether the node's metrics say that it serves."""
    try:
        with urllib.request.urlopen(_METRICS, timeout=_METRICS_TIMEOUT_S) as answer:
            return any(line.rstrip() in (b"plumise_serving 1", b"plumise_serving 1.0") for line in answer)
    except OSError:
        return False


def main(pid: int, unit: str, state: Path) -> None:
    """Print everything.

    `parts` by name; `files`: bytes of the ledger and of the rest of the state directory, number of files of shared
    memory; `serving`.
    """
    processes = [process for process in map(measured, members(unit)) if process is not None]
    ledger = size(state / "ledger.sqlite")
    json.dump(
        {
            "parts": {name: asdict(part) for name, part in parts(processes, pid).items()},
            "files": {"ledger": ledger, "state": size(state) - ledger, "shared": len(list(_SHARED.iterdir()))},
            "serving": serving(),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
