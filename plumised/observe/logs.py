"""The log: records in the form that its reader wants, bounded and without secrets.

They go to standard error; under systemd to the journal itself, with fields for programs (docs/logs.md).
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from plumised.events import LogEvent, told_by
from plumised.observe.journal import SOCKET, JournalHandler, JournalSocket

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from plumised.observe.redaction import Redactor

MAX_LINE = 4096
"""Characters of one line; the rest is cut."""
MAX_LINES = 100
"""Lines of one record, as of a traceback; the rest is cut."""

_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""syslog(3) priorities, as sd-daemon(3) wants them in front of a line."""

_QUIET = ("aiohttp.access", "asyncio", "web3", "eth_utils", "urllib3")
"""Libraries that say a lot below this: each request, and with it what was signed."""


_IDENTIFIER: Final = "plumised"
_ENGINE_IDENTIFIER: Final = "plumise-engine"
"""Of what the engine prints, so that journalctl -t tells the two apart."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What every record of one daemon says of it.

    Attributes:
        node: its name, where it is known.
        instance: of the unit, where it is one of several.
    """

    node: str | None = None
    instance: str | None = None


class Form(StrEnum):
    """How a record is written."""

    JOURNAL = "journal"
    TEXT = "text"
    JSON = "json"


def form_of(wanted: str, journal_stream: str | None, descriptor: int) -> Form:
    """The form to write in.

    Args:
        wanted: `auto`, which is `journal` if the stream is the journal and else `text`; or a form.
        journal_stream: the value of JOURNAL_STREAM, `device:inode` of the stream that systemd gave.
        descriptor: of the stream that is written to.
    """
    if wanted != "auto":
        return Form(wanted)
    try:
        stream = os.fstat(descriptor)
    except OSError:
        return Form.TEXT
    return Form.JOURNAL if journal_stream == f"{stream.st_dev}:{stream.st_ino}" else Form.TEXT


class RecordFormatter(logging.Formatter):
    """Writes records in one form; secrets are replaced before anything is cut or quoted."""

    def __init__(self, form: Form, redactor: Redactor) -> None:
        super().__init__()
        self._form = form
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """The record as one or more lines, without the last line's end."""
        lines = self._lines(record)
        match self._form:
            case Form.JOURNAL:
                return "\n".join(f"<{_priority(record)}>{_cut(f'{record.name}: {line}')}" for line in lines)
            case Form.JSON:
                return _as_json(record, lines, self._told(record))
            case Form.TEXT:
                head = f"{_moment(record)} {record.levelname:<7} {record.name}: "
                return "\n".join(
                    _cut(f"{head}{line}" if not place else f"  {line}") for place, line in enumerate(lines)
                )

    def fields(self, record: logging.LogRecord, identity: Identity) -> dict[str, str]:
        """The record as fields of the journal (systemd.journal-fields(7))."""
        lines = self._lines(record)
        event = told_by(record)
        output = event is not None and event.event is LogEvent.ENGINE_OUTPUT
        every = {
            "MESSAGE": "\n".join(_cut(line) for line in lines),
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": _ENGINE_IDENTIFIER if output else _IDENTIFIER,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName,
            "LOGGER": record.name,
            "PLUMISE_NODE": identity.node,
            "PLUMISE_INSTANCE": identity.instance,
        }
        every |= {f"PLUMISE_{name.upper()}": value for name, value in self._told(record).items()}
        # The message is redacted and cut line by line already.
        return {name: value if name == "MESSAGE" else self._clean(value) for name, value in every.items() if value}

    def _lines(self, record: logging.LogRecord) -> list[str]:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{self.formatStack(record.stack_info)}"
        lines = [_printable(line) for line in self._redactor.redact(text).splitlines()] or [""]
        if len(lines) > MAX_LINES:
            lines = [*lines[:MAX_LINES], f"… {len(lines) - MAX_LINES} lines more"]
        return lines

    def _told(self, record: logging.LogRecord) -> dict[str, str]:
        event = told_by(record)
        return {} if event is None else {name: self._clean(value) for name, value in event.fields().items()}

    def _clean(self, value: str) -> str:
        return _cut(_printable(self._redactor.redact(value)))


def configure(
    level: str,
    form: Form,
    stream: TextIO,
    redactor: Redactor,
    identity: Identity | None = None,
    journal: Path = SOCKET,
) -> logging.Handler:
    """Have the process's records written; returns the handler, which replaces all others.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: of the records.
        stream: usually standard error. In the journal's form it gets what the journal does not take.
        redactor: knows the secrets.
        identity: what every record says of the daemon.
        journal: its socket.
    """
    handler = handler_for(form, stream, redactor, identity or Identity(), journal)
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
        if isinstance(other, JournalHandler):
            other.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A broken standard error must not end in tracebacks on standard error.
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    return handler


def handler_for(
    form: Form, stream: TextIO, redactor: Redactor, identity: Identity | None = None, journal: Path = SOCKET
) -> logging.Handler:
    """What writes records as `configure` has them written. The arguments: see there."""
    formatter = RecordFormatter(form, redactor)
    plain = logging.StreamHandler(stream)
    plain.setFormatter(formatter)
    if form is not Form.JOURNAL:
        return plain
    of = identity or Identity()
    return JournalHandler(JournalSocket(journal), lambda record: formatter.fields(record, of), plain)


def _priority(record: logging.LogRecord) -> int:
    return next(priority for level, priority in _PRIORITIES if record.levelno >= level)


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _printable(line: str) -> str:
    """The line without control characters, which could paint over a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "�" for letter in line)


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"


def _as_json(record: logging.LogRecord, lines: list[str], told: dict[str, str]) -> str:
    document = {
        "at": _moment(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _cut(lines[0]),
    }
    if len(lines) > 1:
        document["detail"] = "\n".join(_cut(line) for line in lines[1:])
    return json.dumps(document | told, ensure_ascii=False)
