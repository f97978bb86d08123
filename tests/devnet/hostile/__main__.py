"""The program of a hostile peer: one JSON request a line in, one JSON object of outcomes out.

    python -m tests.devnet.hostile NODE_ADDRESS PREFIX BLOCKS HIDDEN

Requests are {"do": NAME, …} with the name and the arguments of a method of `attacks.Attacks`. First of all comes {}
when the peer is connected. What an attack has opened stays open until `let_go`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

os.environ["HIVEMIND_LOGLEVEL"] = "CRITICAL"


async def main(address: str, prefix: str, blocks: str, hidden: str) -> None:
    from plumised.petals.compat import apply

    apply()
    import torch
    from hivemind import P2P

    from tests.devnet.hostile.attacks import Attacks
    from tests.devnet.hostile.malformed import Target

    torch.set_num_threads(1)
    p2p = await P2P.create(initial_peers=[address], dht_mode="client", no_listen=True, use_relay=False, auto_nat=False)
    attacks = Attacks(p2p, address, Target(prefix, int(blocks), int(hidden)))
    loop = asyncio.get_running_loop()
    say({})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        say(await getattr(attacks, request.pop("do"))(**request))
    await p2p.shutdown()


def say(outcomes: Mapping[str, str]) -> None:
    sys.stdout.write(json.dumps(outcomes) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    os._exit(0)
