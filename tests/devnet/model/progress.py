"""A progress display for steps that take seconds: one line redrawn on a terminal, sparse lines elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TextIO

_WIDTH = 30
_SPARSE_STEPS = 4


@dataclass(slots=True)
class Progress:
    """Shows how far one step is.

    Attributes:
        title: what is being done, a few words.
        total: how many units there are, at least 1.
        out: where it is shown.
    """

    title: str
    total: int
    out: TextIO = field(default_factory=lambda: sys.stderr)
    _done: int = 0

    def advance(self, units: int = 1) -> None:
        """Count units as done and show it."""
        before, self._done = self._done, min(self.total, self._done + units)
        if self.out.isatty():
            filled = _WIDTH * self._done // self.total
            bar = "#" * filled + "-" * (_WIDTH - filled)
            end = "\n" if self._done == self.total else ""
            self.out.write(f"\r{self.title} [{bar}] {self._done}/{self.total}{end}")
        elif before * _SPARSE_STEPS // self.total != self._done * _SPARSE_STEPS // self.total:
            self.out.write(f"{self.title}: {self._done}/{self.total}\n")
        self.out.flush()
