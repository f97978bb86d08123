"""plumised register: has the daemon register the agent, in the AgentRegistry contract where that is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.deeds import add_deed_arguments, tell
from plumised.cli.verb import Context, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--registry",
        action="store_true",
        help="do what the AgentRegistry contract still needs, which rewards are paid through",
    )
    add_deed_arguments(parser)
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    answer = client(arguments, context).register(
        registry=arguments.registry, dry_run=arguments.dry_run, timeout_s=arguments.timeout
    )
    return tell(answer, context, as_json=arguments.json)


VERB = Verb("register", "have the agent registered on the chain", _configure, _run)
