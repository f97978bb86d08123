"""What a process shares with those that it forks stays shared."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

from tests.petals.engine_process import ROOT

PROGRAM: Final = """
import gc, os, re, sys
from pathlib import Path
from plumised.petals import memory

kept = [[number] for number in range(400_000)]
memory.settle()
if (child := os.fork()) == 0:
    memory.keep_inherited()
    gc.collect()
    found = re.search(r"^Private_Dirty: +([0-9]+)", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    print(found[1], flush=True)
    os._exit(0)
os.waitpid(child, 0)
class Loop: pass
loop = Loop()
loop.itself = loop
import weakref
gone = weakref.ref(loop)
del loop
memory.release()
print(gone() is None)
"""


def test_a_collection_in_a_forked_process_copies_nothing_and_the_parent_still_collects() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    private_kb, collected = run.stdout.split()
    assert re.fullmatch(r"\d+", private_kb)
    # 400 000 lists are 35 MB, all of which a collection would write to.
    assert int(private_kb) < 10_000
    assert collected == "True"
