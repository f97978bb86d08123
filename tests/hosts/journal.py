"""What a host's journal holds, as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Record:
    """One record of the journal.

    Attributes:
        message: its text.
        priority: syslog's, 0 (emergency) to 7 (debug).
        fields: every field by its name.
    """

    message: str
    priority: int
    fields: Mapping[str, str]


def records(lines: str) -> tuple[Record, ...]:
    """The records that `journalctl -o json` printed, oldest first."""
    return tuple(_record(json.loads(line)) for line in lines.splitlines() if line)


def _record(raw: dict[str, object]) -> Record:
    fields = {name: _text(value) for name, value in raw.items()}
    return Record(fields.get("MESSAGE", ""), int(fields.get("PRIORITY", "6")), fields)


def _text(value: object) -> str:
    """A field as text. The journal gives bytes that are not text as numbers, and repeated fields as lists of texts."""
    match value:
        case str():
            return value
        case [int(), *_]:
            return bytes(number for number in value if isinstance(number, int)).decode(errors="replace")
        case [*texts]:
            return "\n".join(_text(text) for text in texts)
        case _:
            return ""
