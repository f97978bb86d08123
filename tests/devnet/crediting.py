"""A two-node swarm under fire: sessions go on while everything is killed in turn, and then the books must agree.

Served is known from outside: the clients count the tokens that they sent to servers and those that came back. Where a
step was cut off, what the nodes say lies between the two; what the Oracle has booked is what the nodes say, exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from plumised.errors import PlumisedError
from tests.devnet.bootstrap import running_bootstrap
from tests.devnet.chain import DevChain
from tests.devnet.client import ClientError, LanguageModelClient, Request
from tests.devnet.model import make_bloom
from tests.devnet.node import DevNode, key
from tests.devnet.oracle import OracleProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.devnet.client import Generation

PREFIX = "devnet"
BLOCKS = 4
SPANS = {"a": (0xAA, f"0:{BLOCKS // 2}"), "b": (0xBB, f"{BLOCKS // 2}:{BLOCKS}")}
PROMPTS = tuple(tuple(range(5 + 7 * n, 15 + 8 * n)) for n in range(4))
SERVING_WITHIN_S = 240.0
GENERATED_WITHIN_S = 400.0
BOOKED_WITHIN_S = 300.0
MOMENT_WITHIN_S = 1200.0
POLL_S = 0.2


@dataclass(frozen=True)
class Plan:
    """How much happens.

    Attributes:
        sessions: that are completed, at least; they go on while there is something left to kill.
        clients: that have sessions at the same time.
        kills: of engines, of daemons, and of the Oracle, each.
        new_tokens: of a session.
        seed: of what is killed, and when.
    """

    sessions: int
    clients: int
    kills: int
    new_tokens: int
    seed: int


@dataclass
class NodeBooks:
    """What a node says that it served, and what the Oracle holds of it."""

    name: str
    served_tokens: int
    served_requests: int
    booked_tokens: int
    booked_requests: int
    proofs: int
    proven_tokens: int

    @property
    def settled(self) -> bool:
        return (
            self.served_tokens == self.booked_tokens == self.proven_tokens
            and self.served_requests == self.booked_requests == self.proofs
        )


@dataclass
class Outcome:
    """What came of it."""

    plan: Plan
    nodes: tuple[NodeBooks, ...]
    sent: int
    received: int
    sessions: int
    failed_sessions: int
    wrong_sessions: int
    kills: dict[str, int]
    seconds: float

    def shortcomings(self) -> list[str]:
        """What does not agree; empty if all does."""
        served = sum(node.served_tokens for node in self.nodes)
        found = [f"{node}: what is served, booked and proven differs" for node in self.nodes if not node.settled]
        if not self.received <= served <= self.sent:
            found.append(f"served {served}, but the clients sent {self.sent} and got {self.received} back")
        if self.wrong_sessions:
            found.append(f"{self.wrong_sessions} sessions gave other tokens than an undisturbed one")
        if self.sessions < self.plan.sessions:
            found.append(f"only {self.sessions} sessions were completed")
        if any(count != self.plan.kills for count in self.kills.values()):
            found.append(f"killed: {self.kills}")
        return found


@dataclass
class Swarm:
    """The running parts."""

    plan: Plan
    nodes: list[DevNode]
    agents: list[str]
    oracle: OracleProcess
    clients: list[LanguageModelClient]
    say: Callable[[str], None]
    kills: dict[str, int] = field(default_factory=lambda: {"engine": 0, "daemon": 0, "oracle": 0})
    sessions: int = 0
    failed: int = 0
    wrong: int = 0
    counters: dict[int, tuple[int, int]] = field(default_factory=dict)
    reference: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict)
    _all_killed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """The sessions and the kills, and one more session of each client when all is well again."""
        await self._serving()
        for ids in PROMPTS:
            self.reference[ids] = (await self._generate(0, ids)).ids
        async with asyncio.TaskGroup() as tasks:
            for index in range(len(self.clients)):
                tasks.create_task(self._client(index))
            tasks.create_task(self._kill_everything())
        await self._serving()
        for index in range(len(self.clients)):
            self._compare(PROMPTS[0], await self._generate(index, PROMPTS[0]))
        # A session that its client gave up without a word lasts, unproven, as long as its engine.
        for node in self.nodes:
            await asyncio.to_thread(node.control.restart_engine)

    async def _client(self, index: int) -> None:
        chance = Random(f"{self.plan.seed} client {index}")
        while self.sessions < self.plan.sessions or not self._all_killed.is_set():
            ids = chance.choice(PROMPTS)
            try:
                self._compare(ids, await self._generate(index, ids))
            except ClientError as error:
                self.failed += 1
                self.say(f"client {index}: {error}")
                await asyncio.sleep(1.0)

    async def _generate(self, index: int, ids: tuple[int, ...]) -> Generation:
        request = Request(self.plan.new_tokens, ids=ids)
        generation = await self.clients[index].generate(request, timeout_s=GENERATED_WITHIN_S)
        self.counters[index] = (generation.sent, generation.received)
        return generation

    def _compare(self, ids: tuple[int, ...], generation: Generation) -> None:
        self.sessions += 1
        self.wrong += generation.ids != self.reference[ids]

    async def _kill_everything(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._kill_in_nodes())
            tasks.create_task(self._kill_the_oracle())
        self._all_killed.set()

    async def _kill_in_nodes(self) -> None:
        chance = Random(f"{self.plan.seed} nodes")
        victims = ["engine", "daemon"] * self.plan.kills
        chance.shuffle(victims)
        for victim, moment in zip(victims, self._moments(chance, len(victims)), strict=True):
            await self._come(moment)
            await asyncio.sleep(chance.uniform(0, 3))
            node = chance.choice(self.nodes)
            if victim == "daemon":
                await node.kill()
                await node.start()
            else:
                os.kill(await self._engine(node), signal.SIGKILL)
            self.kills[victim] += 1
            self.say(f"{victim} of {node.directory.name} killed; {self.sessions} sessions")
            # The next one may come while this one is still starting, now and then.
            if chance.random() < 0.75:
                await self._serving()

    async def _kill_the_oracle(self) -> None:
        chance = Random(f"{self.plan.seed} oracle")
        for moment in self._moments(chance, self.plan.kills):
            await self._come(moment)
            await asyncio.sleep(chance.uniform(0, 3))
            await self.oracle.kill()
            self.kills["oracle"] += 1
            await asyncio.sleep(chance.uniform(0, 6))
            await self.oracle.start()

    def _moments(self, chance: Random, number: int) -> list[float]:
        """Sessions that are completed when something is killed: spread over all of them, or few would get through."""
        return sorted(chance.uniform(0, 0.9 * self.plan.sessions) for _ in range(number))

    async def _come(self, moment: float) -> None:
        async with asyncio.timeout(MOMENT_WITHIN_S):
            while self.sessions < moment:
                await asyncio.sleep(POLL_S)

    async def _engine(self, node: DevNode) -> int:
        """The pid of the node's engine, as soon as it has one."""
        async with asyncio.timeout(SERVING_WITHIN_S):
            while True:
                status = await self._status(node)
                if status is not None and status["engine"]["pid"] is not None:
                    return int(status["engine"]["pid"])
                await self._revive(node, status)
                await asyncio.sleep(POLL_S)

    async def _serving(self) -> None:
        """Wait until both nodes serve."""
        async with asyncio.timeout(SERVING_WITHIN_S):
            while True:
                found = [await self._status(node) for node in self.nodes]
                if all(status is not None and status["serving"] for status in found):
                    return
                for node, status in zip(self.nodes, found, strict=True):
                    await self._revive(node, status)
                await asyncio.sleep(POLL_S)

    async def _revive(self, node: DevNode, status: dict[str, Any] | None) -> None:
        """Have a node that has given up after many failures try again, as its operator would."""
        if status is not None and status["engine"]["state"] == "failed":
            await asyncio.to_thread(node.control.restart_engine)

    async def _status(self, node: DevNode) -> dict[str, Any] | None:
        try:
            return await node.status()
        except PlumisedError:
            return None

    async def books(self) -> tuple[NodeBooks, ...]:
        """What nodes and Oracle say, once they agree, or after BOOKED_WITHIN_S."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BOOKED_WITHIN_S):
                while not all(node.settled for node in await self._books()):
                    await asyncio.sleep(1.0)
        return await self._books()

    async def _books(self) -> tuple[NodeBooks, ...]:
        found = []
        for node, agent in zip(self.nodes, self.agents, strict=True):
            total = (await node.status())["usage"]["total"]
            held = await self.oracle.control.agent(agent)
            proofs = await self.oracle.control.proofs(agent)
            found.append(
                NodeBooks(
                    name=node.directory.name,
                    served_tokens=total["tokens"],
                    served_requests=total["requests"],
                    booked_tokens=held.booked_tokens,
                    booked_requests=held.booked_requests,
                    proofs=len(proofs),
                    proven_tokens=sum(proof.token_count for proof in proofs),
                )
            )
        return tuple(found)


@contextlib.asynccontextmanager
async def running_swarm(plan: Plan, place: Path, say: Callable[[str], None]) -> AsyncIterator[Swarm]:
    """Start everything, with its files below `place`, whose path must be short."""
    model = make_bloom(place / "model", blocks=BLOCKS)
    async with contextlib.AsyncExitStack() as stack:
        peers = await stack.enter_async_context(running_bootstrap(place))
        chain = await stack.enter_async_context(DevChain())
        oracle = await stack.enter_async_context(OracleProcess(rpc_url=chain.url, database=place / "oracle.sqlite"))
        nodes, agents = [], []
        for name, (byte, blocks) in SPANS.items():
            node = DevNode(place / name, model, blocks, key(byte), oracle.url, chain.url, PREFIX, initial_peers=peers)
            agents.append(node.prepare())
            await chain.admin.fund(agents[-1], 10**18)
            nodes.append(await stack.enter_async_context(node))
        clients = [
            await stack.enter_async_context(
                LanguageModelClient.swarm(model, PREFIX, peers, log=place / f"client-{index}.log")
            )
            for index in range(plan.clients)
        ]
        yield Swarm(plan, nodes, agents, oracle, clients, say)


async def credited(plan: Plan, say: Callable[[str], None]) -> Outcome:
    """Run the plan and say what came of it."""
    # Unix sockets want short paths.
    with tempfile.TemporaryDirectory(prefix="plm-", ignore_cleanup_errors=True) as place:
        async with running_swarm(plan, Path(place), say) as swarm:
            started = time.monotonic()
            await swarm.run()
            return Outcome(
                plan=plan,
                nodes=await swarm.books(),
                sent=sum(sent for sent, _ in swarm.counters.values()),
                received=sum(received for _, received in swarm.counters.values()),
                sessions=swarm.sessions,
                failed_sessions=swarm.failed,
                wrong_sessions=swarm.wrong,
                kills=swarm.kills,
                seconds=time.monotonic() - started,
            )
