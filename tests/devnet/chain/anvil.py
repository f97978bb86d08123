"""A real anvil beside the devnet, for tests that need no precompile: the devnet must not be kinder than other nodes.

The environment variable ANVIL names the executable; without it those tests run against the devnet only. To use::

    @pytest.fixture(params=plain_nodes())
    async def node(request: pytest.FixtureRequest) -> AsyncIterator[PlainNode]:
        async with plain_node(request.param) as running:
            yield running
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from tests.devnet.chain.blockchain import CHAIN_ID
from tests.devnet.chain.devchain import DevChain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from _pytest.mark import ParameterSet

START_PATIENCE_S: Final = 30.0
STOP_PATIENCE_S: Final = 10.0
_LISTENING: Final = "Listening on "


@dataclass(frozen=True)
class PlainNode:
    """A node of chain 41956 that mines each transaction at once, with a base fee of 0 at its start.

    Attributes:
        fund: sets the balance of an address, in wei.
    """

    url: str
    fund: Callable[[str, int], Awaitable[None]]


def plain_nodes() -> list[ParameterSet]:
    """Return what a fixture is parametrized with: the devnet, and anvil where there is one."""
    missing = pytest.mark.skipif(not os.environ.get("ANVIL"), reason="ANVIL names no anvil executable")
    return [pytest.param("devnet"), pytest.param("anvil", marks=missing)]


@asynccontextmanager
async def plain_node(name: str) -> AsyncIterator[PlainNode]:
    """Run the node that a parameter of `plain_nodes` names."""
    if name == "devnet":
        async with DevChain() as chain:
            yield PlainNode(chain.url, chain.admin.set_balance)
        return
    async with _anvil(os.environ["ANVIL"]) as node:
        yield node


@asynccontextmanager
async def _anvil(executable: str) -> AsyncIterator[PlainNode]:
    process = await asyncio.create_subprocess_exec(
        executable,
        *("--host", "127.0.0.1", "--port", "0", "--chain-id", str(CHAIN_ID)),
        *("--base-fee", "0", "--gas-price", "0", "--disable-min-priority-fee"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(START_PATIENCE_S):
            url = await _url(process)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(_discard(process))
            yield PlainNode(url, lambda address, wei: _set_balance(url, address, wei))
            reader.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_PATIENCE_S):
            await process.wait()


async def _url(process: asyncio.subprocess.Process) -> str:
    if process.stdout is None:
        raise RuntimeError("anvil has no output")
    async for line in process.stdout:
        text = line.decode().strip()
        if text.startswith(_LISTENING):
            return f"http://{text.removeprefix(_LISTENING)}"
    raise RuntimeError("anvil ended before it listened")


async def _discard(process: asyncio.subprocess.Process) -> None:
    """Read what anvil prints, so that it never waits for a reader."""
    if process.stdout is not None:
        while await process.stdout.read(65536):
            pass


async def _set_balance(url: str, address: str, wei: int) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setBalance", "params": [address, hex(wei)]}
    async with aiohttp.ClientSession() as session, session.post(url, json=call) as response:
        answer = await response.json()
    if "error" in answer:
        raise RuntimeError(f"anvil_setBalance: {answer['error']}")
