"""Figures that the suites measure, kept in build/e2e/figures.json."""

from __future__ import annotations

import fcntl
import json
from typing import TYPE_CHECKING, Final

from tests.devnet.client.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

DIRECTORY: Final = ROOT / "build" / "e2e"


def keep(suite: str, figures: Mapping[str, float]) -> None:
    """Replace the figures of one suite. Several processes may do so at the same time."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (DIRECTORY / "figures.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = DIRECTORY / "figures.json"
        every: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
        every[suite] = {name: round(value, 2) for name, value in figures.items()}
        file.write_text(json.dumps(every, indent=2) + "\n")
