"""How an error that ends a command is told: on standard error or, where that is the journal, there and with fields."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from plumised.config import ConfigError
from plumised.events import LogEvent, told
from plumised.observe.control_client import ControlError, ReloadRefusedError
from plumised.observe.journal import SOCKET
from plumised.observe.logs import Form, form_of, handler_for
from plumised.observe.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from plumised.cli.verb import Context
    from plumised.errors import PlumisedError


def complain(error: PlumisedError, context: Context, journal: Path = SOCKET) -> None:
    """Tell the error, one line for each thing that is wrong.

    Args:
        error: that ends the command.
        context: has standard error, and JOURNAL_STREAM in its environment where systemd made that the journal.
        journal: its socket.
    """
    if not _is_journal(context):
        for line, _ in _lines(error):
            context.stderr.write(f"plumised: {line}\n")
        return
    handler = handler_for(Form.JOURNAL, context.stderr, Redactor(), None, journal)
    for line, keys in _lines(error):
        attributes = {
            "name": __name__,
            "levelno": logging.ERROR,
            "levelname": "ERROR",
            "msg": line,
            "pathname": __file__,
            "funcName": complain.__name__,
        }
        reason = error.reason if isinstance(error, ControlError) else error.code
        extra = told(LogEvent.COMMAND_FAILED, reason=reason, keys=keys)
        handler.handle(logging.makeLogRecord({**attributes, **extra}))
    handler.close()


def _is_journal(context: Context) -> bool:
    stream = context.environ.get("JOURNAL_STREAM")
    return stream is not None and form_of("auto", stream, context.stderr.fileno()) is Form.JOURNAL


def _lines(error: PlumisedError) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each line, and the keys that it is about."""
    match error:
        case ConfigError():
            for problem in error.problems:
                yield str(problem), (problem.key,) if problem.key else ()
        case ReloadRefusedError(reasons=reasons) if reasons:
            yield from ((reason, ()) for reason in reasons)
        case _:
            yield str(error), ()
