"""Figures that the suites measure, kept in build/e2e/figures.json."""

from __future__ import annotations

import contextlib
import fcntl
import json
from typing import TYPE_CHECKING, Final

from tests.devnet.client.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DIRECTORY: Final = ROOT / "build" / "e2e"


@contextlib.contextmanager
def sole_writer(name: str) -> Iterator[Path]:
    """The JSON file of that name, which the processes of a run write in turn."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (DIRECTORY / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield DIRECTORY / f"{name}.json"


def keep(suite: str, figures: Mapping[str, float]) -> None:
    """Replace the figures of one suite."""
    with sole_writer("figures") as file:
        every: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
        every[suite] = {name: round(value, 2) for name, value in figures.items()}
        file.write_text(json.dumps(every, indent=2) + "\n")
