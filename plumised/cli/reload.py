"""plumised reload: has the daemon read its configuration again; what ExecReload= of the units runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.verb import Context, Verb, add_json_argument, add_timeout_argument

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

DEFAULT_TIMEOUT_S = 300.0


def _configure(parser: ArgumentParser) -> None:
    add_json_argument(parser)
    add_timeout_argument(
        parser,
        DEFAULT_TIMEOUT_S,
        "how long to wait for an engine that is restarted",
        "after it the exit status is 75",
    )
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    answer = client(arguments, context).reload(arguments.timeout)
    context.stdout.write(answer if arguments.json else f"{json.loads(answer)['message']}\n")
    return 0


VERB = Verb(
    "reload", "have the daemon read its configuration again; what is wrong with it changes nothing", _configure, _run
)
