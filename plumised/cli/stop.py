"""plumised stop: ends the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.verb import Context, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    client(arguments, context).stop()
    return 0


VERB = Verb("stop", "stop the daemon; `plumised wait --for stopped` waits for its end", _configure, _run)
