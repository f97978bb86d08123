"""A devnet node with both of its ports, from start to stop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.devnet.chain.admin_server import AdminPort
from tests.devnet.chain.blockchain import Blockchain, Conditions
from tests.devnet.chain.model import Mining, MiningMode
from tests.devnet.chain.node import Node
from tests.devnet.chain.rpc_server import RpcPort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Options:
    """How a node starts.

    Attributes:
        funds: balances at genesis, in wei by address (20 bytes).
        base_fee, min_tip: wei per gas.
        port, admin_port: 0 takes a free one.
    """

    funds: Mapping[bytes, int] = field(default_factory=dict)
    mining: Mining = field(default_factory=lambda: Mining(mode=MiningMode.INSTANT))
    base_fee: int = 0
    min_tip: int = 0
    epoch_blocks: int = 1200
    host: str = "127.0.0.1"
    port: int = 0
    admin_port: int = 0
    clock: Callable[[], float] = time.time


@dataclass(frozen=True)
class Ports:
    """Where a node listens."""

    host: str
    rpc: int
    admin: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.rpc}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.host}:{self.admin}"


async def serve(options: Options, started: Callable[[Ports], None], stop: asyncio.Event) -> None:
    """Run a node until `stop` is set; `started` is told where it listens, once it does.

    Raises OSError when it cannot listen.
    """
    chain = Blockchain(
        options.clock,
        options.funds,
        options.epoch_blocks,
        Conditions(base_fee=options.base_fee, min_tip=options.min_tip),
    )
    node = Node(chain, options.mining)
    rpc = RpcPort(node, options.host, options.port)
    admin = AdminPort(node, rpc, options.host, options.admin_port)
    try:
        await rpc.start()
        started(Ports(rpc.host, rpc.port, await admin.start()))
        async with asyncio.TaskGroup() as tasks:
            timekeeper = tasks.create_task(node.keep_time())
            await stop.wait()
            timekeeper.cancel()
    finally:
        node.board.clear()
        await admin.close()
        await rpc.close()
