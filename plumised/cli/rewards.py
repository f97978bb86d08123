"""plumised rewards: shows what the agent has earned, and claims it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from plumised.cli.daemon_socket import add_daemon_arguments, client
from plumised.cli.deeds import add_deed_arguments, tell
from plumised.cli.verb import Context, UsageError, Verb
from plumised.observe.wording import amount

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--claim", action="store_true", help="claim what the RewardPool owes the agent")
    add_deed_arguments(parser)
    add_daemon_arguments(parser)


def _run(arguments: Namespace, context: Context) -> int:
    daemon = client(arguments, context)
    if arguments.claim:
        answer = daemon.claim(dry_run=arguments.dry_run, timeout_s=arguments.timeout)
        return tell(answer, context, as_json=arguments.json)
    if arguments.dry_run:
        raise UsageError("--dry-run tries a claim, so it needs --claim", "Use plumised rewards --claim --dry-run.")
    answer = daemon.rewards()
    context.stdout.write(answer if arguments.json else "".join(f"{line}\n" for line in _lines(json.loads(answer))))
    return 0


def _lines(rewards: dict[str, Any]) -> Iterator[str]:
    yield f"pending       {amount(int(rewards['pending_wei']))}, epoch {rewards['epoch']}"
    yield f"contribution  {' '.join(rewards['contribution'])}"
    if rewards["in_registry"] is False:
        yield "registry      does not have the agent: run plumised register --registry"
    elif rewards["in_registry"]:
        stale = ", not heard of lately: run plumised register --registry" if rewards["registry_active"] is False else ""
        yield f"registry      has the agent{stale}"
    if rewards["claims"]:
        yield f"claimed       {amount(int(rewards['claimed_wei']))} since the daemon started"
    claim = rewards["claim"]
    yield f"claim         {claim['message']}" + ("" if claim["done"] else f" ({claim['code']})")
    if rewards["automatic"]:
        yield f"automatic     from {amount(int(rewards['threshold_wei']))} on"
    else:
        yield "automatic     no; plumised rewards --claim claims"


VERB = Verb("rewards", "show what the agent has earned, and claim it", _configure, _run)
