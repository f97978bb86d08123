"""Finds the verb, runs it, and turns every expected error into lines on standard error and an exit status."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from plumised.cli import (
    check_config,
    register,
    reload,
    restart_engine,
    rewards,
    run,
    status,
    stop,
    version,
    wait,
    wallet,
)
from plumised.cli.complaints import complain
from plumised.cli.exits import EXIT_INTERRUPTED, exit_status, expected
from plumised.cli.verb import Context, UsageError, Verb
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERBS: tuple[Verb, ...] = (
    run.VERB,
    check_config.VERB,
    status.VERB,
    wait.VERB,
    stop.VERB,
    reload.VERB,
    restart_engine.VERB,
    register.VERB,
    rewards.VERB,
    wallet.VERB,
    version.VERB,
)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"`{self.prog} --help` lists what there is.")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    root = _Parser(prog="plumised", description="Keep this machine a node of the Plumise network.", allow_abbrev=False)
    verbs = root.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)
    for verb in VERBS:
        below = verbs.add_parser(verb.name, help=verb.summary, description=verb.summary, allow_abbrev=False)
        verb.configure(below)
        below.set_defaults(run=verb.run)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: the arguments after the program's name; by default those of the process.
    """
    context = Context(sys.stdout, sys.stderr, os.environ, socket.gethostname())
    try:
        exit_code = _run(argv, context)
        context.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has had enough; without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return exit_code


def _run(argv: Sequence[str] | None, context: Context) -> int:
    try:
        arguments = parser().parse_args(argv)
        exit_code: int = arguments.run(arguments, context)
    except PlumisedError as error:
        return _told(error, context)
    except BaseExceptionGroup as group:
        statuses = [_told(error, context) for error in expected(group)]
        if not statuses:
            raise
        return statuses[0]
    except KeyboardInterrupt:
        context.stderr.write("plumised: interrupted\n")
        return EXIT_INTERRUPTED
    except SystemExit as finished:  # argparse has printed its help
        return finished.code if isinstance(finished.code, int) else 0
    return exit_code


def _told(error: PlumisedError, context: Context) -> int:
    """Tell the error, one line for each thing that is wrong, and return its exit status."""
    complain(error, context)
    return exit_status(error)
