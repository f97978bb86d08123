"""What the daemon's process does before anything else."""

import subprocess
import sys
from pathlib import Path

from plumised.daemon.process import RECURSION_LIMIT

ROOT = Path(__file__).parents[3]


def test_endless_recursion_is_an_error_again_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    wrong = tmp_path / "file"
    wrong.touch()
    config = tmp_path / "node.toml"
    config.write_text(
        f'[node]\nstate_dir = "{wrong}"\nruntime_dir = "{tmp_path}/run"\ncache_dir = "{tmp_path}/cache"\n'
    )
    code = f"""
import sys
from pathlib import Path
from plumised.config import Origin
from plumised.daemon import run
from plumised.errors import OperatorError
assert sys.getrecursionlimit() > {RECURSION_LIMIT}, "no library raises the limit any more"
origin = Origin(Path({str(config)!r}), "host")
try:
    run(origin.read(), origin=origin, environ={{}})
except OperatorError:
    print(sys.getrecursionlimit())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == f"{RECURSION_LIMIT}\n"
