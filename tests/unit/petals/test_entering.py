"""What a process that enters the sandbox keeps, whatever started it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumised.ipc.job import EngineJob
from plumised.ipc.messages import Layer, LayerName, Sandbox
from plumised.petals.failures import EngineError
from plumised.petals.sandbox.entering import check

DESCRIPTORS = """
import json, os, socket
from plumised.petals.sandbox.entering import close_descriptors
own = socket.socket()
close_descriptors()
own.getsockname()
listed = sorted(int(name) for name in os.listdir("/proc/self/fd"))
# Without its own socket, and the descriptor by which it lists them.
print(json.dumps([each for each in listed if each != own.fileno()][:-1]))
"""
PRIVILEGES = """
import json
from pathlib import Path
from plumised.petals.sandbox.privileges import drop_capabilities, forbid_new_privileges
forbid_new_privileges()
drop_capabilities()
lines = Path("/proc/self/status").read_text().splitlines()
print(json.dumps(dict(line.split(":\\t") for line in lines if ":\\t" in line)))
"""
REMAINING = 1 << 1 | 1 << 3 | 1 << 10 | 1 << 14
"""CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_NET_BIND_SERVICE, CAP_IPC_LOCK of <linux/capability.h>."""


def told_by(program: str, *, handed_on: tuple[int, ...] = ()) -> Any:
    """What a program prints that runs in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, pass_fds=handed_on, check=True)
    return json.loads(done.stdout)


def job(sandbox: str) -> EngineJob:
    """A job that asks for this."""
    return EngineJob("life", "/run/s", "/srv/tally", "/run/engine", "/srv/cache", "any", "/srv/key", sandbox=sandbox)


def test_what_was_handed_on_is_closed_and_what_it_opened_itself_stays(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert told_by(DESCRIPTORS, handed_on=(file.fileno(),)) == [0, 1, 2]


def test_privileges_are_given_up_for_good() -> None:
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapPrm:"))
    status = told_by(PRIVILEGES)
    assert status["NoNewPrivs"] == "1"
    for which in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
        assert int(status[which], 16) & ~(int(held.split()[1], 16) & REMAINING) == 0


WHOLE = tuple(Layer(name, active=True, detail="here") for name in LayerName)


def without(lacking: LayerName) -> tuple[Layer, ...]:
    """All layers but this one."""
    return tuple(Layer(each.name, active=each.name is not lacking, detail="why") for each in WHOLE)


@pytest.mark.parametrize("lacking", [LayerName.FILES, LayerName.SYSTEM_CALLS, LayerName.NO_NEW_PRIVILEGES])
def test_what_is_required_and_lacking_is_a_failure_that_says_which_and_why(lacking: LayerName) -> None:
    with pytest.raises(EngineError, match=f"no {lacking}: why") as raised:
        check(job("required"), Sandbox(without(lacking)))
    assert (raised.value.failure.code, raised.value.failure.permanent) == ("sandbox-unavailable", True)


def test_what_is_required_and_cannot_be_hidden_is_a_failure() -> None:
    with pytest.raises(EngineError, match="/a/b lies in /a"):
        check(job("required"), Sandbox(WHOLE, ("/a/b lies in /a",)))


@pytest.mark.parametrize(
    ("mode", "sandbox"),
    [
        ("required", Sandbox(WHOLE)),
        ("required", Sandbox(without(LayerName.SIGNALS))),
        ("auto", Sandbox(without(LayerName.FILES), ("/a/b lies in /a",))),
        ("off", Sandbox()),
    ],
)
def test_everything_else_goes_on(mode: str, sandbox: Sandbox) -> None:
    check(job(mode), sandbox)
