"""An engine starts without the modules that it does not need, and whoever asks for one of them gets it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.petals.deferring import DEFERRED, Deferred
from plumised.petals.patches import fingerprint
from tests.petals import fingerprints
from tests.petals.engine_process import ENGINE_PYTHON

if TYPE_CHECKING:
    from tests.petals.engine_process import EngineProcess

DEFER = """
import sys
from plumised.petals.deferring import DEFERRED, StandIn, defer
defer()
from plumised.petals.compat import apply
apply()
"""


def run(code: str) -> str:
    done = subprocess.run(
        [ENGINE_PYTHON, "-W", "ignore", "-c", DEFER + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("deferred", DEFERRED, ids=lambda deferred: deferred.name)
def test_upstream_uses_it_as_it_did(deferred: Deferred) -> None:
    known = fingerprints.read()
    changed = [name for name in deferred.relies_on if fingerprint(name) != known.get(name)]
    assert not changed, (
        f"{', '.join(changed)} is not the code that is known to do without {deferred.name}. Read what has changed, "
        "adapt plumised/petals/deferring.py, then run `python -m tests.petals.fingerprints` with the engine's "
        "environment."
    )


def test_the_engine_s_parts_import_none_of_them() -> None:
    assert (
        run(
            "import plumised.petals.server, plumised.petals.client.swarm\n"
            "print([one.name for one in DEFERRED if not isinstance(sys.modules[one.name], StandIn)])"
        )
        == "[]"
    )


def test_an_engine_that_serves_has_loaded_none_of_them(served: EngineProcess) -> None:
    maps = Path(f"/proc/{served.pid}/maps").read_text()
    assert "libtorch_cpu" in maps
    assert "bitsandbytes" not in maps
    assert "scipy/optimize" not in maps


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("petals.utils.peft", "load_peft"),
        ("accelerate.utils.fsdp_utils", "FSDP"),
        ("scipy.optimize", "linprog"),
    ],
)
def test_what_is_asked_of_one_is_what_it_has(name: str, attribute: str) -> None:
    assert (
        run(
            f"import {name}\n"
            f"standing_in = sys.modules[{name!r}]\n"
            f"found = standing_in.{attribute}\n"
            f"print(type(standing_in).__name__, found is sys.modules[{name!r}].{attribute})"
        )
        == "StandIn True"
    )


def test_adapters_once_they_are_there_are_petals_own() -> None:
    assert (
        run(
            "import petals.utils.peft as backend_s\n"
            "backend_s.load_peft\n"
            "from petals.utils.peft import using_adapter\n"
            "print(backend_s.using_adapter is using_adapter)"
        )
        == "True"
    )


def test_a_module_that_is_not_there_is_the_error_that_it_would_be() -> None:
    assert (
        run(
            "from plumised.petals.deferring import Deferred\n"
            "try:\n    StandIn(Deferred('no.such', '', ())).anything\n"
            "except ModuleNotFoundError as error:\n    print(error.name)"
        )
        == "no"
    )
