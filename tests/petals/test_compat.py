"""petals imports, all of it, with the hivemind that is installed; and other versions are refused by name."""

from __future__ import annotations

import subprocess
from importlib import metadata
from typing import TYPE_CHECKING

from plumised.petals import compat
from tests.petals.engine_process import ENGINE_PYTHON

if TYPE_CHECKING:
    import pytest

IMPORT_ALL = """
import importlib, pkgutil
from plumised.petals import compat
compat.apply()
import petals
names = [module.name for module in pkgutil.walk_packages(petals.__path__, "petals.")]
for name in names:
    # Programs, which run when they are imported.
    if not name.startswith("petals.cli.run_"):
        importlib.import_module(name)
print(len(names))
"""


def test_every_module_of_petals_can_be_imported() -> None:
    run = subprocess.run([ENGINE_PYTHON, "-W", "ignore", "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.splitlines()[-1]) > 50


def test_without_it_petals_cannot_be_imported() -> None:
    run = subprocess.run([ENGINE_PYTHON, "-c", "import petals"], capture_output=True, text=True, check=False)
    assert "ImportError" in run.stderr


def test_names_that_hivemind_has_are_left_alone() -> None:
    import hivemind  # noqa: PLC0415 -- the subject of this test

    before = dict(vars(hivemind))
    compat.apply()
    assert {name: value for name, value in vars(hivemind).items() if before.get(name) is not value} == {}


def test_the_installed_versions_are_the_right_ones() -> None:
    assert compat.wrong_versions() == {}


def test_a_missing_and_a_different_distribution_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "REQUIRED", {"torch": "1.13", "petals-of-another-flower": "1", "hivemind": "1.1.12"})
    assert compat.wrong_versions() == {"torch": metadata.version("torch"), "petals-of-another-flower": None}
