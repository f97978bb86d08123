"""plumised restart-engine: stops the engine and starts it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.verb import Context, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    client(arguments, context).restart_engine()
    return 0


VERB = Verb("restart-engine", "stop the engine and start it again", _configure, _run)
