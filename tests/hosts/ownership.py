"""Whose containers and networks are whose: a label names the process that made them.

What a session that died has left is removed by the next one; what living sessions have is never touched.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from tests.hosts.docker_cli import DockerError, docker

LABEL = "org.plumise.tests.owner"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: with it, a pid names one process only."""
    with contextlib.suppress(OSError):
        # The second field is a name in parentheses, which may hold spaces.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


def owner() -> str:
    """This process, as the label has it."""
    return f"{os.getpid()}:{_started(os.getpid())}"


def labels() -> dict[str, str]:
    """The labels of what this process makes."""
    return {LABEL: owner()}


def mine() -> list[str]:
    """The containers and networks of this process."""
    return [f"{kind} {name}" for kind in ("container", "network") for name in _of_this_process(kind)]


def remove_mine() -> None:
    """Remove the containers and networks of this process."""
    _remove("container", _of_this_process("container"))
    _remove("network", _of_this_process("network"))


def remove_orphans() -> None:
    """Remove the containers and networks whose process is no more."""
    _remove("container", [name for name, who in _labelled("container") if not _lives(who)])
    _remove("network", [name for name, who in _labelled("network") if not _lives(who)])


def _of_this_process(kind: str) -> list[str]:
    return [name for name, who in _labelled(kind) if who == owner()]


def _lives(who: str) -> bool:
    pid, _, started = who.partition(":")
    return pid.isdecimal() and _started(int(pid)) == started


def _labelled(kind: str) -> list[tuple[str, str]]:
    everything, place = (["--all"], ".Config.Labels") if kind == "container" else ([], ".Labels")
    names = docker(kind, "ls", *everything, "--quiet", "--no-trunc", "--filter", f"label={LABEL}").split()
    found = []
    for name in names:
        # Another session may have removed it between the two calls.
        with contextlib.suppress(DockerError):
            who = json.loads(docker(kind, "inspect", "--format", f'{{{{json (index {place} "{LABEL}")}}}}', name))
            found.append((name, str(who)))
    return [(name, who) for name, who in found if who]


def _remove(kind: str, names: list[str]) -> None:
    force = ["--force", "--volumes"] if kind == "container" else []
    for name in names:
        with contextlib.suppress(DockerError):
            docker(kind, "rm", *force, name)
