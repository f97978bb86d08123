"""What a verb of the command line is, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Mapping

LONGEST_S = 86400.0


class UsageError(PlumisedError):
    """The command line cannot be understood."""

    code = "usage"


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb has of the world.

    Attributes:
        stdout: for what was asked for.
        stderr: for what went wrong and for progress.
        environ: the process's environment.
        host_name: what this machine is called.
    """

    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    host_name: str


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb.

    Attributes:
        name: as typed.
        summary: one line for the overview of verbs.
        configure: adds the verb's arguments to its parser.
        run: does the work and returns the exit status; may raise `PlumisedError`.
    """

    name: str
    summary: str
    configure: Callable[[ArgumentParser], None]
    run: Callable[[Namespace, Context], int]


def seconds(text: str) -> float:
    """An argument that is a length of time."""
    value = float(text)
    if not 0 < value <= LONGEST_S:
        raise ValueError(text)
    return value


def add_timeout_argument(parser: ArgumentParser, default_s: float, what: str, then: str) -> None:
    """Add --timeout.

    Args:
        parser: of the verb.
        default_s: without it.
        what: that is waited for, for the help.
        then: what comes of it if that takes longer.
    """
    parser.add_argument(
        "--timeout", type=seconds, default=default_s, metavar="SECONDS", help=f"{what} (default: {default_s:g}); {then}"
    )


def add_json_argument(parser: ArgumentParser) -> None:
    """Add --json, for the daemon's answer as it came."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
