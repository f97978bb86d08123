"""What the chain's tests are made of: a devnet, a real ledger, a queue that runs, and patience with a deadline."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from plumised.chain import calldata
from plumised.chain.addresses import HEARTBEAT, HEARTBEAT_GAS, REGISTER_AGENT, REGISTER_AGENT_GAS
from plumised.chain.fees import DynamicFee
from plumised.chain.flight import FlightPolicy
from plumised.chain.orders import Order, Purpose
from plumised.chain.reader import ChainReader
from plumised.chain.rpc import Rpc
from plumised.chain.timing import Timing
from plumised.chain.transactions import TransactionQueue
from plumised.chain.wallet import TransactionFields, Wallet
from plumised.ledger.thread import LedgerThread
from tests.devnet.chain import CHAIN_ID

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

T = TypeVar("T")

WALLET = Wallet(bytes([0x46]) * 32)
AGENT = WALLET.address
PLM = 10**18
CAP = 10**10

FAST = FlightPolicy(
    replace_after_s=1.0, resend_after_s=0.2, settle_s=0.5, doubt_s=0.5, most_attempts=4, poll_s=0.05, slow_poll_s=0.1
)
PATIENT = FlightPolicy(replace_after_s=60.0, resend_after_s=0.2, settle_s=30.0, doubt_s=0.5, poll_s=0.05)
STEADY = Timing(chance=lambda: 0.0)

REGISTER = Order(Purpose.REGISTER, REGISTER_AGENT, calldata.register_agent("node"), REGISTER_AGENT_GAS)
BEAT = Order(Purpose.HEARTBEAT, HEARTBEAT, calldata.heartbeat(), HEARTBEAT_GAS)


async def eventually(question: Callable[[], T], fits: Callable[[T], bool] = bool, patience_s: float = 20.0) -> T:
    """Ask again until the answer fits, and return it; TimeoutError with the last one when that takes too long."""
    deadline = time.monotonic() + patience_s
    while not fits(answer := question()):
        if time.monotonic() > deadline:
            raise TimeoutError(repr(answer))
        await asyncio.sleep(0.01)
    return answer


@asynccontextmanager
async def running(work: Coroutine[object, object, object]) -> AsyncIterator[asyncio.Task[object]]:
    """Let something run during the block; what it raises, other than its cancellation, fails the test."""
    task = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@dataclass(frozen=True)
class World:
    """A queue that runs against a devnet."""

    ledger: LedgerThread
    rpc: Rpc
    chain: ChainReader
    queue: TransactionQueue


@asynccontextmanager
async def world(
    directory: Path,
    urls: str | Sequence[str],
    *,
    policy: FlightPolicy = FAST,
    fee_cap: int = CAP,
    timeout_s: float = 5.0,
    verified_for_s: float = 10.0,
) -> AsyncIterator[World]:
    """Everything of the daemon that sends transactions, from start to end of one life of it."""
    ledger = await LedgerThread.open(directory / "ledger.db", time.time)
    addresses = [urls] if isinstance(urls, str) else urls
    rpc = Rpc(addresses, CHAIN_ID, timeout_s=timeout_s, verified_for_s=verified_for_s, timing=STEADY)
    async with ledger, rpc:
        chain = ChainReader(rpc)
        queue = TransactionQueue(WALLET, chain, ledger, fee_cap=fee_cap, policy=policy, timing=STEADY)
        async with running(queue.run()):
            yield World(ledger, rpc, chain, queue)


async def send_by_hand(
    chain: ChainReader,
    nonce: int,
    *,
    to: str = REGISTER_AGENT,
    data: bytes = REGISTER.data,
    fee: DynamicFee | None = None,
) -> str:
    """Send a transaction as another program that has the same key would."""
    fields = TransactionFields(CHAIN_ID, nonce, to, data, 300_000, fee or DynamicFee(10**9, 10**9))
    signed = WALLET.sign_transaction(fields)
    await chain.send(signed.raw)
    return signed.hash


class Forwarder:
    """A second address of a node, that can go away while the node stays."""

    def __init__(self, url: str) -> None:
        self._host, port = url.removeprefix("http://").split(":")
        self._port = int(port)
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()

    async def go_away(self) -> None:
        """Stop listening and reset what is open."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._connections):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._connections |= {writer, far_writer}
        with suppress(ConnectionError):
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._connections -= {writer, far_writer}


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while part := await source.read(65536):
        target.write(part)
        await target.drain()
    target.close()
