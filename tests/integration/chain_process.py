"""The chain's side of a node as a process of its own, which ends by SIGKILL at a chosen step of a transaction's life.

    python -m tests.integration.chain_process URL DIRECTORY HEARTBEATS [WHEN STEP COUNT]

WHEN is before or after, STEP is save, send or receipt. It ends by itself after so many confirmed heartbeats.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from plumised.chain.reader import ChainReader
from plumised.ledger.thread import LedgerThread
from tests.integration.chain_node import agent, confirmed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

P = ParamSpec("P")
T = TypeVar("T")


def deadly(work: Callable[P, Coroutine[Any, Any, T]], when: str, count: int) -> Callable[P, Coroutine[Any, Any, T]]:
    """The same, but the process dies before or after it is done for the `count`th time."""
    left = [count]

    async def done(*arguments: P.args, **named: P.kwargs) -> T:
        left[0] -= 1
        if left[0] == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await work(*arguments, **named)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return done


def arm(when: str, step: str, count: int) -> None:
    match step:
        case "save":
            LedgerThread.save_transaction = deadly(LedgerThread.save_transaction, when, count)  # type: ignore[method-assign] # on purpose
        case "send":
            ChainReader.send = deadly(ChainReader.send, when, count)  # type: ignore[method-assign] # on purpose
        case "receipt":
            ChainReader.receipt = deadly(ChainReader.receipt, when, count)  # type: ignore[method-assign] # on purpose
        case _:
            raise ValueError(step)


async def live(url: str, directory: Path, heartbeats: int) -> None:
    async with agent(directory, url) as node:
        await confirmed(node, heartbeats)


def main(arguments: Sequence[str]) -> None:
    url, directory, heartbeats, *death = arguments
    if death:
        when, step, count = death
        arm(when, step, int(count))
    asyncio.run(live(url, Path(directory), int(heartbeats)))


if __name__ == "__main__":
    main(sys.argv[1:])
