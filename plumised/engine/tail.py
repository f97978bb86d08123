"""What the engine prints: relayed line by line to the log, and the last lines kept as evidence."""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import TYPE_CHECKING, Final

from plumised.events import LogEvent, told

if TYPE_CHECKING:
    import asyncio

_READ: Final = 16384
_NAMES: Final = "DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL"
_LEVEL: Final = re.compile(rf"^({_NAMES})\b|\[({_NAMES})\]")
_LEVELS: Final = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}


class Lines:
    """Cuts a stream of bytes into lines of text, in bounded memory.

    A line ends with a line feed or, as in progress bars, a carriage return; empty ones are left out. Bytes that are not
    UTF-8 are replaced; what is longer than `longest` bytes is cut off and marked with an ellipsis.
    """

    def __init__(self, longest: int = 2000) -> None:
        self._longest = longest
        self._line = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete."""
        *complete, rest = re.split(rb"[\r\n]", data)
        lines: list[str] = []
        for part in complete:
            self._add(part)
            lines += self.end()
        self._add(rest)
        return lines

    def end(self) -> list[str]:
        """The line that is left when no more bytes come."""
        text = self._line.decode(errors="replace").rstrip()
        lines = [text + "…" if self._cut else text] if text else []
        self._line.clear()
        self._cut = False
        return lines

    def _add(self, data: bytes) -> None:
        room = self._longest - len(self._line)
        self._cut = self._cut or len(data) > room
        self._line += data[:room]


class Tail:
    """The last lines of a process's output, each also logged when it comes.

    A line that starts with its level, or names it in brackets as the engine's libraries do, is logged with it; others
    as information.
    """

    def __init__(self, logger: logging.Logger, keep: int = 50) -> None:
        self._logger = logger
        self._kept: deque[str] = deque(maxlen=keep)

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._kept)

    def add(self, line: str) -> None:
        """Take a line."""
        self._kept.append(line)
        level = _LEVEL.search(line[:200])
        severity = _LEVELS[level[1] or level[2]] if level else logging.INFO
        self._logger.log(severity, "%s", line, extra=told(LogEvent.ENGINE_OUTPUT))

    async def follow(self, stream: asyncio.StreamReader) -> None:
        """Take every line of a stream until it ends."""
        lines = Lines()
        while data := await stream.read(_READ):
            for line in lines.feed(data):
                self.add(line)
        for line in lines.end():
            self.add(line)
