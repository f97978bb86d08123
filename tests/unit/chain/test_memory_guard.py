from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, resource, signal, subprocess, sys
from plumised.chain.memory_guard import keep_memory_private
keep_memory_private()
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
child = subprocess.run(["sh", "-c", "ulimit -Hc"], capture_output=True, text=True, check=True).stdout.strip()
print(dumpable, resource.getrlimit(resource.RLIMIT_CORE), child)
"""


def test_guarded_process_is_not_dumpable_and_leaves_no_core_file() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()

    assert told == "0 (0, 0) 0"
