from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROFILE = ROOT / "etc/apparmor.d/plumised"
PATIENCE_S = 120


def parser(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apparmor_parser", *options, PROFILE], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_the_profile_parses() -> None:
    done = parser("--skip-kernel-load", "--skip-cache")

    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr


@pytest.mark.parametrize("unit", ["plumised.service", "plumised@.service"])
def test_the_units_ask_for_it_by_its_name(unit: str) -> None:
    text = (ROOT / "systemd" / unit).read_text(encoding="utf-8")

    assert re.findall("^AppArmorProfile=-(.*)$", text, re.MULTILINE) == parser("--names").stdout.split()
