"""The exit statuses of `plumised`, after sysexits.h."""

from __future__ import annotations

from plumised.cli.prompts import PromptError
from plumised.cli.verb import UsageError
from plumised.errors import EXIT_CONFIG, OperatorError, PlumisedError
from plumised.observe.control_client import ControlTimeoutError, NoDaemonError

EXIT_NOT_DONE = 1
"""What was asked for was understood and not done; what was said tells why."""
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


def expected(group: BaseExceptionGroup[BaseException]) -> tuple[PlumisedError, ...]:
    """The errors in a group of tasks' errors, the operator's first; empty if one of them is none of ours."""
    ours, others = group.split(PlumisedError)
    if ours is None or others is not None:
        return ()
    return tuple(sorted(_leaves(ours), key=lambda error: not isinstance(error, OperatorError)))


def _leaves(group: BaseExceptionGroup[PlumisedError]) -> list[PlumisedError]:
    found: list[PlumisedError] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
