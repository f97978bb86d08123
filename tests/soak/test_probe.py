"""What the probe says of real processes, and to which part of a node it counts them."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.probe import Part, Process, measured, parts, size

if TYPE_CHECKING:
    from collections.abc import Iterator

HOARD = 64_000_000
_FORKED = f"""
import os, sys
hoard = os.urandom({HOARD})
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
sys.stdin.read()
"""


@contextmanager
def forked() -> Iterator[list[Path]]:
    """The /proc directories of a process that has filled memory, and of one forked from it."""
    with subprocess.Popen([sys.executable, "-c", _FORKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield [Path("/proc", pid) for pid in process.stdout.readline().decode().split()]
        assert process.stdin is not None
        process.stdin.close()


def test_memory_that_a_fork_shares_counts_once() -> None:
    with forked() as places:
        found = [process for process in map(measured, places) if process is not None]

    assert len(found) == len(places)
    assert HOARD <= sum(process.memory for process in found) < 1.5 * HOARD
    assert all(process.threads == 1 for process in found)
    assert all(process.descriptors >= 3 for process in found)


def test_a_process_that_has_ended_is_none() -> None:
    with forked() as places:
        pass

    assert measured(places[0]) is None


def test_everything_but_the_daemon_and_p2pd_is_the_engine() -> None:
    processes = [
        Process(30, "plumise-hdl-0", 12, memory=1, descriptors=2, threads=3),
        Process(20, "plumise-engine", 11, memory=10, descriptors=20, threads=30),
        Process(40, "p2pd", 13, memory=5, descriptors=6, threads=7),
        Process(10, "plumised", 10, memory=100, descriptors=200, threads=300),
    ]

    assert parts(processes, main=10) == {
        "daemon": Part("10:10", memory=100, descriptors=200, threads=300, processes=1),
        "engine": Part("20:11", memory=11, descriptors=22, threads=33, processes=2),
        "p2pd": Part("40:13", memory=5, descriptors=6, threads=7, processes=1),
    }


def test_a_directory_is_as_large_as_the_files_below_it(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "one").write_bytes(b"x" * 100)
    (tmp_path / "below" / "two").write_bytes(b"x" * 20)

    assert size(tmp_path) == 120
    assert size(tmp_path / "one") == 100
    assert size(tmp_path / "none") == 0
