from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plumised.cli.background import LogFileError, enter

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60

PROGRAM = """
import json, os, sys
from pathlib import Path
from plumised.cli.background import enter

log, told = Path(sys.argv[1]), Path(sys.argv[2])
held = open(sys.argv[2] + ".held", "w")
enter(log)
print("to the log", flush=True)
print("errors too", file=sys.stderr, flush=True)
links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
facts = {
    "directory": os.getcwd(),
    "session": os.getsid(0),
    "input": os.readlink("/proc/self/fd/0"),
    "holds": held.name in links,
}
Path(f"{told}.part").write_text(json.dumps(facts))
os.rename(f"{told}.part", told)
"""


def test_only_the_process_in_the_background_goes_on(tmp_path: Path) -> None:
    log, told = tmp_path / "plumised.log", tmp_path / "told"
    log.write_text("before\n", encoding="utf-8")

    called = subprocess.run(
        [sys.executable, "-c", PROGRAM, log, told], cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=False
    )

    deadline = time.monotonic() + PATIENCE_S
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    facts = json.loads(told.read_text(encoding="utf-8"))
    assert (called.returncode, called.stdout, called.stderr) == (0, b"", b"")
    assert facts.pop("session") != os.getsid(0)
    assert facts == {"directory": "/", "input": "/dev/null", "holds": False}
    assert log.read_text(encoding="utf-8") == "before\nto the log\nerrors too\n"
    assert log.stat().st_mode & 0o777 == 0o640


def test_a_log_that_cannot_be_written_is_told_before_anything_is_left(tmp_path: Path) -> None:
    with pytest.raises(LogFileError, match="No such file or directory"):
        enter(tmp_path / "missing/plumised.log")
