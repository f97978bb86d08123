"""A node's reporting beside a real Oracle, in a time that the test lets pass."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from plumised.ipc.messages import Counters, Usage
from plumised.ledger import Figures, LedgerThread
from plumised.oracle import Dialect, OracleClient, Policy, Reporter
from tests.devnet.oracle import AgentView, DevOracle, OracleConfig
from tests.unit.oracle.examples import ExampleSigner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SIGNER = ExampleSigner()
AGENT = SIGNER.address
ANSWER_TIMEOUT_S = 0.4
"""How long the reporter waits for an Oracle that hangs: real time, so short."""


@dataclass
class Time:
    """Clocks of a node and an Oracle that advance only when they are told to."""

    oracle: float = field(default_factory=lambda: float(int(time.time())))
    monotonic: float = 1000.0
    ahead: float = 0.0

    def wall(self) -> float:
        """The node's clock."""
        return self.oracle + self.ahead

    def pass_s(self, seconds: float) -> None:
        """Let time pass for all."""
        self.oracle += seconds
        self.monotonic += seconds


class Node:
    """What of a node has to do with reporting: its ledger and its reporter."""

    def __init__(self, directory: Path, url: str, clocks: Time, dialect: Dialect | None, policy: Policy) -> None:
        self._path = directory / "ledger.sqlite"
        self._url = url
        self._clocks = clocks
        self._dialect = dialect
        self._policy = policy
        self._chance = random.Random(7)
        self.requests = 0
        self.served = 0
        self.signed: list[int] = []
        self.unregistered = 0
        self.ledger: LedgerThread
        self.reporter: Reporter

    async def start(self) -> None:
        """A life of the daemon begins."""
        self.ledger = await LedgerThread.open(self._path, self._clocks.wall)
        self.reporter = Reporter(
            client=OracleClient(self._url, timeout_s=ANSWER_TIMEOUT_S),
            dialect=self._dialect,
            signer=SIGNER,
            ledger=self.ledger,
            policy=self._policy,
            clock=self._clocks.wall,
            monotonic=lambda: self._clocks.monotonic,
            random=self._chance.random,
            on_unregistered=self._count_unregistered,
        )

    async def stop(self) -> None:
        """It ends, whatever it was about."""
        await self.ledger.close()

    async def restart(self) -> None:
        """It ends and another begins."""
        await self.stop()
        await self.start()

    async def serve(self, tokens: int) -> None:
        """The engine serves one request."""
        self.requests += 1
        self.served += tokens
        await self.ledger.record_usage(
            f"life-{self.requests}", "handler-0-1", Usage(Counters(1, 1, tokens, tokens * 1000), Counters(), Counters())
        )
        await self.ledger.close_incarnation(f"life-{self.requests}")

    async def turn(self) -> float:
        """One attempt to report, and the time until the next one is due."""
        pause = await self.reporter.turn()
        self.signed.append((await self.ledger.report_books()).last_signed)
        self._clocks.pass_s(pause)
        return pause

    async def credited(self, turns: int = 40) -> None:
        """Let time pass until all that was served is known to be booked."""
        for _ in range(turns):
            books = await self.ledger.report_books()
            done = books.accepted.covered if books.accepted else Figures()
            if books.in_flight is None and done == Figures.of(books.totals) and not self.reporter.snapshot().problem:
                return
            await self.turn()
        raise AssertionError(f"not credited: {await self.ledger.report_books()}, {self.reporter.snapshot()}")

    async def abandoned_turn(self, after_s: float) -> None:
        """A turn in whose middle the daemon is killed: its task is torn down without a word."""
        task = asyncio.ensure_future(self.reporter.turn())
        await asyncio.wait({task}, timeout=after_s)
        task.cancel()
        await asyncio.wait({task})

    def _count_unregistered(self) -> None:
        self.unregistered += 1


@dataclass
class Scene:
    """A node, an Oracle, and the time of both."""

    node: Node
    oracle: DevOracle
    clocks: Time

    async def held(self) -> AgentView:
        """What the Oracle holds of the node's agent."""
        return await self.oracle.control.agent(AGENT)

    async def check_books(self) -> None:
        """What was served is booked, exactly, and every accepted timestamp was later than the one before."""
        held = await self.held()
        assert held.booked_tokens == self.node.served
        assert held.booked_requests == (await self.node.ledger.totals()).requests
        stamps = [report.timestamp for report in await self.oracle.control.reports(AGENT)]
        assert stamps == sorted(set(stamps))
        assert self.node.signed == sorted(self.node.signed)


@asynccontextmanager
async def scene(
    directory: Path,
    dialect: Dialect | None = Dialect.METRICS_V1,
    policy: Policy | None = None,
    config: OracleConfig | None = None,
) -> AsyncIterator[Scene]:
    """A node that has never reported beside an Oracle that knows its agent."""
    clocks = Time()
    chosen = config or OracleConfig(listed=frozenset({AGENT.lower()}))
    async with DevOracle(replace(chosen, clock=lambda: clocks.oracle)) as oracle:
        node = Node(directory, oracle.url, clocks, dialect, policy or Policy())
        await node.start()
        try:
            yield Scene(node, oracle, clocks)
        finally:
            await node.stop()
