"""plumised status: what the node does and what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.verb import Context, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the whole status as JSON")
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    context.stdout.write(client(arguments, context).status("json" if arguments.json else "text"))
    return 0


VERB = Verb("status", "show what the node does and what is wrong", _configure, _run)
