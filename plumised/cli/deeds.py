"""How the verbs that have the daemon do something on the chain tell what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plumised.cli.exits import EXIT_NOT_DONE
from plumised.cli.verb import add_json_argument, add_timeout_argument

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from plumised.cli.verb import Context

DEFAULT_TIMEOUT_S = 300.0


def add_deed_arguments(parser: ArgumentParser) -> None:
    """Add --dry-run, --timeout and --json."""
    parser.add_argument("--dry-run", action="store_true", help="only find out whether it would succeed; costs nothing")
    add_timeout_argument(parser, DEFAULT_TIMEOUT_S, "how long to wait for the transaction", "it goes on after that")
    add_json_argument(parser)


def tell(answer: str, context: Context, *, as_json: bool) -> int:
    """Print what came of it and return the exit status: 0 where it is done, else 1."""
    deed = json.loads(answer)
    if as_json:
        context.stdout.write(answer)
    elif deed["done"]:
        transaction = f" ({deed['transaction']})" if deed["transaction"] else ""
        context.stdout.write(f"{deed['message']}{transaction}\n")
    else:
        context.stderr.write(f"plumised: {deed['message']} ({deed['code']}). {deed['remedy']}\n")
    return 0 if deed["done"] else EXIT_NOT_DONE
