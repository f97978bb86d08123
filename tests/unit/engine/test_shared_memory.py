"""What is removed of shared memory, and what is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from plumised.engine.shared_memory import forget_tensors

if TYPE_CHECKING:
    from pathlib import Path


def ended_pid() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_tensors_of_processes_that_have_ended_are_removed(tmp_path: Path) -> None:
    pids = [ended_pid(), ended_pid()]
    for pid in pids:
        (tmp_path / f"torch_{pid}_1848182510_0").touch()
        (tmp_path / f"torch_{pid}_1848182510_1").touch()

    forget_tensors(pids, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_tensors_of_a_process_that_lives_and_of_others_are_left_alone(tmp_path: Path) -> None:
    pid = ended_pid()
    names = {f"torch_{os.getpid()}_1_0", f"torch_{pid}1_1_0", f"pym-{pid}-abc", f"torch_{pid}"}
    for name in names:
        (tmp_path / name).touch()

    forget_tensors([pid, os.getpid()], tmp_path)

    assert {file.name for file in tmp_path.iterdir()} == names
