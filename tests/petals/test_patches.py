"""The patches apply to the upstream code that they were written for, and to all of it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from plumised.petals.patches import PATCHES, Patch, fingerprint
from tests.petals import fingerprints
from tests.petals.engine_process import ENGINE_PYTHON

if TYPE_CHECKING:
    from pathlib import Path

APPLY = """
import json, multiprocessing, sys
from plumised.petals.compat import apply
apply()
from plumised.ipc.job import EngineJob
from plumised.petals import patches
from plumised.petals.progress_counter import RuntimeProgress
from plumised.petals.reporting import StateReporter

def attribute(patch):
    owner, name = patches._owner(patch.target)
    return getattr(owner, name)

job = EngineJob("life-1", "/s", "/t", "/r", "/c", "/m", "/i")
before = {patch.target: attribute(patch) for patch in patches.PATCHES}
class Container: pass
class Dht: pass
patches.apply_patches(
    job, RuntimeProgress(), multiprocessing.Array("i", 2, lock=False),
    threads=2, kernel=None, container=Container, dht=Dht, states=StateReporter(lambda state: None),
)
replaced = {patch.target: attribute(patch) is not before[patch.target] for patch in patches.PATCHES}
from hivemind.p2p import P2P
print(json.dumps({"replaced": replaced, "p2pd": P2P._make_process_args("p2pd", listen="x")}))
"""


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.target)
def test_upstream_is_what_the_patch_was_written_for(patch: Patch) -> None:
    known = fingerprints.read()
    changed = [name for name in patch.relies_on if fingerprint(name) != known.get(name)]
    assert not changed, (
        f"{', '.join(changed)} is not the code that the patch of {patch.target} was written for. "
        f"The patch {patch.reason}. Read what has changed, adapt plumised/petals/patches.py, then run "
        "`python -m tests.petals.fingerprints` with the engine's environment."
    )


def test_no_fingerprint_is_kept_of_what_no_patch_relies_on() -> None:
    assert fingerprints.read().keys() == fingerprints.measure().keys()


def test_a_name_that_upstream_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError, match=r"upstream has no petals\.server\.server\.Sausage"):
        fingerprint("petals.server.server.Sausage")


def test_a_change_of_upstream_changes_its_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = tmp_path / "upstream_sample.py"
    module.write_text("def answer():\n    return 42\n\ndef other():\n    return 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert fingerprint("upstream_sample.answer") == fingerprint("upstream_sample.answer")
    assert fingerprint("upstream_sample.answer") != fingerprint("upstream_sample.other")


@pytest.fixture(scope="module")
def applied() -> dict[str, dict[str, bool]]:
    run = subprocess.run([ENGINE_PYTHON, "-W", "ignore", "-c", APPLY], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    result: dict[str, dict[str, bool]] = json.loads(run.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.target)
def test_every_patch_is_applied(patch: Patch, applied: dict[str, dict[str, bool]]) -> None:
    assert applied["replaced"][patch.target]


def test_p2pd_is_started_so_that_it_dies_with_its_parent(applied: dict[str, list[str]]) -> None:
    *guard, p2pd, listen = applied["p2pd"]
    assert guard[0].endswith("/setpriv")
    assert guard[1:] == ["--pdeathsig", "KILL", "--"]
    assert (p2pd, listen) == (str(ENGINE_PYTHON.parents[1] / "lib/plumised/p2pd"), "-listen=x")


def test_p2pd_is_not_packed() -> None:
    """As hivemind ships it, it unpacks itself into 25 MB of each process's own memory."""
    assert b"UPX!" not in (ENGINE_PYTHON.parents[1] / "lib/plumised/p2pd").read_bytes()[:4096]
