"""What a process shares with those that it forks stays shared, and what it used for work that is done is given back."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

from plumised.petals.memory import IDLE_BEATS, IdleRelease
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


class Released:
    """How often memory was given back, and an idle process that does it."""

    def __init__(self) -> None:
        self.times = 0
        self.idle = IdleRelease(self._release)

    def _release(self) -> None:
        self.times += 1

    def rest(self, beats: int, work: int) -> None:
        for _ in range(beats):
            self.idle.beat(work)


def test_a_process_that_has_worked_gives_memory_back_once_it_has_been_idle() -> None:
    process = Released()
    process.idle.beat(1)
    process.rest(IDLE_BEATS - 1, 1)
    assert process.times == 0
    process.rest(1, 1)
    assert process.times == 1
    process.rest(10 * IDLE_BEATS, 1)
    assert process.times == 1


def test_a_process_that_has_never_worked_has_nothing_to_give_back() -> None:
    process = Released()
    process.rest(10 * IDLE_BEATS, 0)
    assert process.times == 0


def test_a_session_that_is_open_is_no_idleness() -> None:
    process = Released()
    for _ in range(10 * IDLE_BEATS):
        process.idle.beat(1, busy=True)
    assert process.times == 0
    process.rest(IDLE_BEATS, 1)
    assert process.times == 1


PEAK: Final = """
import ctypes, re
from pathlib import Path
from plumised.petals import memory

def resident():
    return int(re.search(r"^VmRSS:\\s+([0-9]+)", Path("/proc/self/status").read_text(), re.MULTILINE)[1])
# As the attention caches of sessions: freed, but for what stands above them.
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
places = [libc.malloc(100_000) for _ in range(1000)]
for place in places:
    ctypes.memset(place, 1, 100_000)
for place in places[:-1]:
    libc.free(place)
before = resident()
memory.trim()
print(before - resident())
"""


def test_what_the_allocator_keeps_is_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True)
    # Of 100 MB.
    assert int(run.stdout) > 90_000
