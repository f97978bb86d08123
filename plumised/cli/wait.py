"""plumised wait: for scripts that go on once the node serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.verb import Context, Verb, add_timeout_argument

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

DEFAULT_TIMEOUT_S = 600.0


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--for", dest="condition", required=True, choices=["serving", "registered", "stopped"], help="what to wait for"
    )
    add_timeout_argument(parser, DEFAULT_TIMEOUT_S, "how long to wait", "after it the exit status is 75")
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    daemon = client(arguments, context)
    if arguments.condition == "stopped":
        daemon.wait_for_end(arguments.timeout)
    else:
        daemon.wait(arguments.condition, arguments.timeout)
    return 0


VERB = Verb("wait", "wait until the node serves, is registered, or has stopped", _configure, _run)
