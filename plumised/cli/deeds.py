"""How the verbs that have the daemon do something on the chain tell what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plumised.cli.exits import EXIT_NOT_DONE
from plumised.cli.verb import seconds

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from plumised.cli.verb import Context

DEFAULT_TIMEOUT_S = 300.0


def add_deed_arguments(parser: ArgumentParser) -> None:
    """Add --dry-run, --timeout and --json."""
    parser.add_argument("--dry-run", action="store_true", help="only find out whether it would succeed; costs nothing")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="how long to wait for the transaction (default: 300); it goes on after that",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


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
