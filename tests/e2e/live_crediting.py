"""`make crediting`: 200 sessions through two nodes while engines, daemons and the Oracle are killed ten times each.

Writes build/crediting.json. Exit status 0 if what was served, booked and proven agrees to the token.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict

from tests.devnet.client.process import ROOT
from tests.devnet.crediting import Plan, credited

SUMMARY = ROOT / "build" / "crediting.json"


def main(argv: list[str]) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="make crediting", description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--kills", type=int, default=10, help="of engines, daemons and the Oracle, each")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    arguments = parser.parse_args(argv)
    plan = Plan(
        sessions=arguments.sessions,
        clients=arguments.clients,
        kills=arguments.kills,
        new_tokens=arguments.new_tokens,
        seed=arguments.seed,
    )
    outcome = asyncio.run(credited(plan, lambda text: print(text, flush=True)))
    text = json.dumps(asdict(outcome), indent=2)
    SUMMARY.write_text(text + "\n")
    print(text)
    for shortcoming in outcome.shortcomings():
        print(f"FAILED: {shortcoming}")
    return 1 if outcome.shortcomings() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
