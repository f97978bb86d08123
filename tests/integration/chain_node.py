"""The chain's side of one node, as the tests run it against a devnet."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plumised.chain.addresses import REWARD_POOL
from plumised.chain.agent import ChainAgent, Rhythm
from plumised.chain.claims import ClaimPolicy
from plumised.chain.terms import ChainTerms
from plumised.ledger.thread import LedgerThread
from tests.devnet.chain import CHAIN_ID
from tests.integration.chain_world import CAP, FAST, STEADY, WALLET, eventually, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from plumised.chain.flight import FlightPolicy
    from plumised.chain.proving import ProvingPolicy
    from plumised.chain.snapshot import ChainSnapshot
    from plumised.chain.timing import Timing

BRISK = Rhythm(recheck_s=60.0, visible_s=2.0, first_retry_s=0.2, longest_retry_s=0.5, watch_s=0.2, tick_s=0.05)


@dataclass
class Engine:
    """What the node's engine tells the chain's side."""

    serving: bool = True


@dataclass
class Sponsor:
    """Somebody who may register the agent at his cost."""

    act: Callable[[], Awaitable[None]]
    calls: int = field(default=0)

    async def __call__(self) -> None:
        self.calls += 1
        await self.act()


@asynccontextmanager
async def agent(  # noqa: PLR0913 # a test says only what matters to it
    directory: Path,
    *urls: str,
    engine: Engine | None = None,
    sponsor: Sponsor | None = None,
    low_balance_wei: int = 0,
    registry: str | None = None,
    reward_pool: str = REWARD_POOL,
    claiming: ClaimPolicy | None = None,
    proving: ProvingPolicy | None = None,
    fee_cap: int = CAP,
    policy: FlightPolicy = FAST,
    timing: Timing = STEADY,
    started: bool = True,
) -> AsyncIterator[ChainAgent]:
    engine = engine or Engine()
    async with await LedgerThread.open(directory / "ledger.db", time.time) as ledger:
        chain_agent = ChainAgent(
            wallet=WALLET,
            store=ledger,
            terms=ChainTerms(
                rpc_urls=urls,
                model="bigscience/bloom-560m",
                fee_cap=fee_cap,
                low_balance_wei=low_balance_wei,
                rpc_timeout_s=2.0,
                heartbeat_s=1.0,
                claiming=claiming or ClaimPolicy(),
                proving=proving,
                flight=policy,
            ),
            chain_id=CHAIN_ID,
            serving=lambda: engine.serving,
            sponsor=sponsor,
            rhythm=BRISK,
            registry=registry,
            reward_pool=reward_pool,
            timing=timing,
        )
        async with running(chain_agent.run()) if started else nullcontext():
            yield chain_agent


async def registered(node: ChainAgent) -> ChainSnapshot:
    return await eventually(node.snapshot, lambda seen: seen.registered is True)


async def confirmed(node: ChainAgent, count: int = 1) -> ChainSnapshot:
    return await eventually(node.snapshot, lambda seen: seen.pulse.confirmed >= count)


async def problem(node: ChainAgent, code: str) -> ChainSnapshot:
    return await eventually(node.snapshot, lambda seen: code in {each.code for each in seen.problems})
