"""What the demo shows: steps with their times, a streamed answer, a table of the nodes."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.devnet.demo.summary import NodeSummary


class Screen:
    """Writes to one terminal or file; on a terminal, what is under way is redrawn in place."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._started = time.monotonic()
        self._drawn = False

    def step(self, text: str) -> None:
        """A step that begins or has ended."""
        self._clear()
        self._write(f"[{time.monotonic() - self._started:5.1f} s] {text}\n")

    def under_way(self, text: str) -> None:
        """How far something is; shown on terminals only."""
        if self._out.isatty():
            self._clear()
            self._write(f"          {text}")
            self._drawn = True

    def text(self, text: str) -> None:
        """Plain text, without an end of line."""
        self._clear()
        self._write(text)

    def nodes(self, nodes: Sequence[NodeSummary]) -> None:
        """The nodes side by side."""
        rows = [
            ("", *(node.name for node in nodes)),
            ("agent", *(node.agent for node in nodes)),
            ("blocks", *(node.blocks for node in nodes)),
            ("seconds to serving", *(f"{node.seconds_to_serving:.1f}" for node in nodes)),
            ("tokens served", *(str(node.tokens_served) for node in nodes)),
            ("tokens booked by the Oracle", *(str(node.tokens_booked) for node in nodes)),
            ("reports accepted", *(str(node.reports_accepted) for node in nodes)),
            ("registered on chain", *("yes" if node.registered else "no" for node in nodes)),
            ("heartbeats on chain", *(str(node.heartbeats) for node in nodes)),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        self._clear()
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._write("  " + "  ".join(cells).rstrip() + "\n")

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class AnswerStream:
    """Turns tokens into text as they come. A character may take several tokens; it is shown once it is whole."""

    def __init__(self, model: Path, screen: Screen) -> None:
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._screen = screen
        self._ids: list[int] = []
        self._shown = ""

    def put(self, token: int) -> None:
        """Show what this token adds."""
        self._ids.append(token)
        text: str = self._tokenizer.decode(self._ids)
        if text.startswith(self._shown) and not text.endswith("\N{REPLACEMENT CHARACTER}"):
            self._screen.text(text[len(self._shown) :])
            self._shown = text
