"""The exit statuses of `plumised`, after sysexits.h."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.prompts import PromptError
from plumised.cli.verb import UsageError
from plumised.errors import EXIT_CONFIG, OperatorError
from plumised.observe.control_client import ControlTimeoutError, NoDaemonError

if TYPE_CHECKING:
    from plumised.errors import PlumisedError

EXIT_USAGE = 64
EXIT_INPUT = 65
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_TEMPORARY = 75
EXIT_INTERRUPTED = 130


def exit_status(error: PlumisedError) -> int:
    """What the process exits with when this error ends it."""
    match error:
        case OperatorError():
            return EXIT_CONFIG
        case UsageError():
            return EXIT_USAGE
        case PromptError():
            return EXIT_INPUT
        case NoDaemonError():
            return EXIT_UNAVAILABLE
        case ControlTimeoutError():
            return EXIT_TEMPORARY
        case _:
            return EXIT_SOFTWARE
