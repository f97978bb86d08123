"""Every request that a node served is proven at the Oracle once, by digests of what its client sent and received."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import psutil
import pytest
import pytest_asyncio
from eth_utils.crypto import keccak

from plumised.chain.calldata import model_hash
from tests.devnet.one_node import one_node
from tests.integration.conftest import short_directory
from tests.petals.client import ClientError, Kept, SwarmClient
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.devnet.node import DevNode
    from tests.devnet.oracle import OracleControl
    from tests.devnet.oracle.views import ProofView

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.engine,
    pytest.mark.timeout(300),
]

BLOCKS = 2
PROVEN_WITHIN_S = 60.0

Statement = tuple[str, str, int]
"""Input hash, output hash, tokens."""


def when_found(ask: Callable[[], object]) -> None:
    """Ask again while the client has not heard yet that the node serves again; it sends nothing then."""

    def answered() -> bool:
        try:
            ask()
        except ClientError as error:
            if any(nothing in str(error) for nothing in ("MissingBlocksError", "failed to dial")):
                return False
            raise
        return True

    eventually(answered, "the client finds the node")


@dataclass
class Client:
    """Sends requests one by one, and keeps what passed in each."""

    swarm: SwarmClient
    prefix: str
    directory: Path
    requests: list[tuple[Kept, int]] = field(default_factory=list)

    def kept(self, tokens: int) -> Kept:
        kept = Kept(self.directory / f"request-{len(self.requests)}")
        self.requests.append((kept, tokens))
        return kept

    def session(self, name: str, *lengths: int, close: bool = True) -> None:
        kept = self.kept(sum(lengths))
        first, *further = lengths

        def begin() -> None:
            self.swarm.open(name, prefix=self.prefix)
            self.swarm.step(name, length=first, prefix=self.prefix, keep=kept)

        when_found(begin)
        for length in further:
            self.swarm.step(name, length=length, prefix=self.prefix, keep=kept)
        if close:
            self.swarm.close(name, prefix=self.prefix)

    def forward(self, length: int) -> None:
        kept = self.kept(length)
        when_found(lambda: self.swarm.forward(batch=1, length=length, prefix=self.prefix, keep=kept))

    def backward(self, length: int) -> None:
        kept = self.kept(length)
        when_found(lambda: self.swarm.backward(batch=1, length=length, prefix=self.prefix, keep=kept))

    def statements(self) -> list[Statement]:
        """What a proof of each request must say, from the client's own side."""
        return sorted(
            ("0x" + keccak(kept.sent).hex(), "0x" + keccak(kept.received).hex(), tokens)
            for kept, tokens in self.requests
        )


@dataclass
class World:
    """One node that serves a whole small model, its client, and the Oracle that takes its proofs."""

    node: DevNode
    agent: str
    client: Client
    oracle: OracleControl
    model: Path

    async def does(self, *requests: tuple[str, tuple[object, ...]]) -> Self:
        for name, arguments in requests:
            await asyncio.to_thread(getattr(self.client, name), *arguments)
        return self

    async def proofs(self) -> list[ProofView]:
        return await self.oracle.proofs(self.agent)

    async def proven(self) -> None:
        """Wait until the Oracle has as many proofs as the client made requests; they must be those."""
        async with asyncio.timeout(PROVEN_WITHIN_S):
            while len(await self.proofs()) < len(self.client.requests):
                await asyncio.sleep(0.2)
        self.check(await self.proofs())

    def check(self, proofs: list[ProofView]) -> None:
        said = sorted((proof.input_hash, proof.output_hash, proof.token_count) for proof in proofs)
        assert said == self.client.statements()
        assert {proof.model_hash for proof in proofs} == {"0x" + model_hash(str(self.model)).hex()}

    async def kill(self, name: str) -> None:
        """Kill a part of the engine and wait until another incarnation serves."""
        status = await self.node.status()
        main = psutil.Process(status["engine"]["pid"])
        everything = [main, *main.children(recursive=True)]
        victims = [main] if name == "main" else [each for each in everything if each.name().startswith(name)]
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        async with asyncio.timeout(90):
            while True:
                now = await self.node.status()
                if now["serving"] and now["engine"]["incarnation"] != status["engine"]["incarnation"]:
                    return
                await asyncio.sleep(0.2)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    with short_directory() as place:
        async with one_node(place, BLOCKS, {"oracle": {"dialect": "metrics-v1"}}) as running:
            swarm = SwarmClient(running.model, running.peers, place / "client.log")
            await asyncio.to_thread(swarm.__enter__)
            try:
                client = Client(swarm, running.node.prefix, place)
                yield World(running.node, running.agent, client, running.oracle, running.model)
            finally:
                await asyncio.to_thread(swarm.__exit__)


# The order matters: each test adds to what the Oracle holds.


async def test_each_request_of_a_running_node_is_proven_once(world: World) -> None:
    await world.does(
        ("session", ("first", 5, 1, 1)),
        ("session", ("second", 2)),
        ("forward", (7,)),
        ("backward", (3,)),
    )
    await world.proven()


@pytest.mark.parametrize("victim", ["plumise-hdl", "main"])
async def test_a_session_that_a_kill_cuts_off_is_proven_as_far_as_it_was_counted(world: World, victim: str) -> None:
    await asyncio.to_thread(world.client.session, f"cut off by {victim}", 4, 1, close=False)
    await world.does(("forward", (2,)))
    await world.kill(victim)
    await world.proven()


async def test_the_daemon_killed_loses_no_proof_and_sends_none_again(world: World) -> None:
    await world.does(("forward", (6,)), ("session", ("before the kill", 3, 1)))
    await world.node.kill()
    await world.node.start()
    await world.node.wait_for("serving")
    await world.does(("forward", (8,)))
    await world.proven()


async def test_status_and_metrics_tell_of_the_proofs(world: World) -> None:
    async with asyncio.timeout(PROVEN_WITHIN_S):
        while (status := (await world.node.status())["oracle"])["proofs_waiting"] or not status["proofs_accepted"]:
            await asyncio.sleep(0.2)


async def test_the_stopped_node_has_proven_everything_that_open_session_included(world: World) -> None:
    await asyncio.to_thread(world.client.session, "open at the end", 9, close=False)
    await world.does(("forward", (1,)))
    assert await world.node.stop() == 0
    world.check(await world.proofs())
