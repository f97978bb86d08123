"""Stands for an engine that was taken over: enters the engine's sandbox, then looks for secrets wherever it gets in.

python secret_search.py TASK < job: what it found is in `<cache_dir>/found.json`. Standard library and the sandbox only.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plumised.ipc.job import EngineJob
from plumised.petals.sandbox.entering import close_descriptors, enter

if TYPE_CHECKING:
    from collections.abc import Iterator

FOUND = "found.json"
_LARGEST_READ = 64 << 20
_OF_PROCESSES = ("environ", "cmdline", "mem", "maps", "io", "auxv")


@dataclass(frozen=True)
class Task:
    """What to look for, and where.

    Attributes:
        needles: in hex, lower-case letters: they are compared with what is there as it is and in lower case.
        roots: directories to look through.
        files: paths that a spy may know, because every node has them.
    """

    needles: tuple[str, ...]
    roots: tuple[str, ...]
    files: tuple[str, ...]


@dataclass
class Found:
    """What became of it.

    Attributes:
        active: layers of the sandbox that are in force.
        opened: what could be opened.
        telling: what of that held a needle.
    """

    active: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)
    telling: list[str] = field(default_factory=list)


def search(task: Task, found: Found) -> None:
    """Try all that can be tried."""
    needles = [bytes.fromhex(needle) for needle in task.needles]
    for path in dict.fromkeys((*task.files, *_below(task.roots), *_of_other_processes())):
        content = _read(path)
        if content is None:
            continue
        found.opened.append(path)
        lowered = content.lower()
        if any(needle in content or needle in lowered for needle in needles):
            found.telling.append(path)


def _below(roots: tuple[str, ...]) -> Iterator[str]:
    for root in roots:
        for directory, _, files in os.walk(root):
            yield from (f"{directory}/{name}" for name in files)


def _of_other_processes() -> Iterator[str]:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            yield from (f"{process}/{name}" for name in _OF_PROCESSES)
            with suppress(OSError):
                yield from (str(descriptor) for descriptor in (process / "fd").iterdir())


def _read(path: str) -> bytes | None:
    """What is in it; None where it cannot be opened, or is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(_LARGEST_READ)
        except PermissionError:
            return None
        except OSError:
            return b""  # another process's memory has nothing at its beginning


def main() -> None:
    """Search, write down what was found, and stay until the daemon ends it."""
    given: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    task = Task(**{name: tuple(values) for name, values in given.items()})
    job = EngineJob.from_json(sys.stdin.read())
    close_descriptors()
    sandbox = enter(job)
    found = Found(active=[layer.name for layer in sandbox.layers if layer.active])
    search(task, found)
    unfinished = Path(job.cache_dir) / f"{FOUND}.part"
    unfinished.write_text(json.dumps(asdict(found)))
    unfinished.replace(Path(job.cache_dir) / FOUND)
    with suppress(KeyboardInterrupt):
        signal.pause()


if __name__ == "__main__":
    main()
