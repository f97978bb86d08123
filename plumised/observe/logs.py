"""The log: records on standard error, in the form that its reader wants, bounded and without secrets."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if record.stack_info:
            text = f"{text}\n{self.formatStack(record.stack_info)}"
        lines = [_printable(line) for line in self._redactor.redact(text).splitlines()] or [""]
        if len(lines) > MAX_LINES:
            lines = [*lines[:MAX_LINES], f"… {len(lines) - MAX_LINES} lines more"]
        match self._form:
            case Form.JOURNAL:
                return "\n".join(f"<{_priority(record)}>{_cut(f'{record.name}: {line}')}" for line in lines)
            case Form.JSON:
                return _as_json(record, lines)
            case Form.TEXT:
                head = f"{_moment(record)} {record.levelname:<7} {record.name}: "
                return "\n".join(
                    _cut(f"{head}{line}" if not place else f"  {line}") for place, line in enumerate(lines)
                )


def configure(level: str, form: Form, stream: TextIO, redactor: Redactor) -> logging.Handler:
    """Have the process's records written to the stream; returns the handler, which replaces all others.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: of the records.
        stream: usually standard error.
        redactor: knows the secrets.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RecordFormatter(form, redactor))
    root = logging.getLogger()
    for other in root.handlers[:]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # A broken standard error must not end in tracebacks on standard error.
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    return handler


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


def _as_json(record: logging.LogRecord, lines: list[str]) -> str:
    document = {
        "at": _moment(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _cut(lines[0]),
    }
    if len(lines) > 1:
        document["detail"] = "\n".join(_cut(line) for line in lines[1:])
    return json.dumps(document, ensure_ascii=False)
