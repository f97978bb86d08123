"""Whatever is killed or stopped: the node notices, serves again, and the Oracle's total equals what was served.

What was served is known from outside: the client counts the tokens that it sent to the node and those that came back.
With nothing lost on the way the two are equal; where a step was cut off, the node's count lies between them.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio

from tests.devnet.client import Request
from tests.devnet.one_node import one_node
from tests.integration.conftest import short_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.devnet.client import Generation, LanguageModelClient
    from tests.devnet.node import DevNode
    from tests.devnet.oracle import OracleControl

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.engine,
    pytest.mark.timeout(300),
]

BLOCKS = 4
PROMPT = tuple(range(5, 21))
NEW_TOKENS = 8
LONG = 300
"""New tokens of a generation that is still going on when something happens."""
NOTICED_WITHIN_S = 15.0
SERVING_AGAIN_WITHIN_S = 90.0
BOOKED_WITHIN_S = 60.0


@dataclass
class World:
    """One node that serves a whole small model, its client, and the Oracle that books its work."""

    node: DevNode
    agent: str
    client: LanguageModelClient
    oracle: OracleControl

    async def generate(self, new_tokens: int = NEW_TOKENS) -> Generation:
        return await self.client.generate(Request(new_tokens, ids=PROMPT))

    async def engine_process(self, name: str) -> psutil.Process:
        """A process of the running engine by the name that it shows: engine, a handler, p2pd."""
        main = psutil.Process((await self.node.status())["engine"]["pid"])
        if name == "main":
            return main
        found = [child for child in main.children(recursive=True) if child.name().startswith(name)]
        assert found, f"no {name} among {[child.name() for child in main.children(recursive=True)]}"
        return found[0]

    async def noticed(self, incarnation: str) -> None:
        """Wait until the node no longer says that this incarnation serves."""
        async with asyncio.timeout(NOTICED_WITHIN_S):
            while True:
                status = await self.node.status()
                if not status["serving"] or status["engine"]["incarnation"] != incarnation:
                    return
                await asyncio.sleep(0.1)

    async def serving_again(self, incarnation: str) -> None:
        """Wait until another incarnation serves."""
        async with asyncio.timeout(SERVING_AGAIN_WITHIN_S):
            while True:
                status = await self.node.status()
                if status["serving"] and status["engine"]["incarnation"] != incarnation:
                    return
                await asyncio.sleep(0.2)

    async def withstands(self, victim: str, number: signal.Signals) -> None:
        """Send the signal between two requests; fails unless the node notices, recovers and books both alike.

        What the engine shared in memory must be gone as well.
        """
        before = await self.generate()
        incarnation = (await self.node.status())["engine"]["incarnation"]
        main = await self.engine_process("main")
        engine = {process.pid for process in [main, *main.children(recursive=True)]}
        assert shared_by(engine) != []
        os.kill((await self.engine_process(victim)).pid, number)
        await self.noticed(incarnation)
        await self.serving_again(incarnation)
        assert shared_by(engine) == []
        after = await self.generate()
        assert after.ids == before.ids
        assert await self.booked(after.received, after.sent) == after.received

    async def booked(self, at_least: int, at_most: int) -> int:
        """The tokens that the Oracle has booked, once it has booked all that the node says it served."""
        async with asyncio.timeout(BOOKED_WITHIN_S):
            while True:
                served = (await self.node.status())["usage"]["total"]["tokens"]
                booked = (await self.oracle.agent(self.agent)).booked_tokens
                if booked == served >= at_least:
                    assert served <= at_most
                    return booked
                await asyncio.sleep(0.2)


def shared_by(pids: set[int]) -> list[str]:
    """Names of the tensors in shared memory that these processes made."""
    return [file.name for file in Path("/dev/shm").glob("torch_*") if int(file.name.split("_")[1]) in pids]  # noqa: S108 -- where Linux keeps it


def alive(process: psutil.Process) -> bool:
    """Whether it runs; what has ended and waits for init to take note of it does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    with short_directory() as place:
        async with one_node(place, BLOCKS) as running, running.client() as client:
            yield World(running.node, running.agent, client, running.oracle)


# The order matters: five failures in a short time are a crash loop, and a new daemon counts from zero.


@pytest.mark.parametrize("victim", ["main", "plumise-hdl", "p2pd", "plumise-dht"])
async def test_a_killed_process_is_noticed_replaced_and_costs_no_count(world: World, victim: str) -> None:
    await world.withstands(victim, signal.SIGKILL)


async def test_the_daemon_killed_leaves_no_engine_and_goes_on_from_its_totals(world: World) -> None:
    before = await world.generate()
    main = await world.engine_process("main")
    engine = [main, *main.children(recursive=True)]
    await world.node.kill()
    await world.node.start()
    await world.node.wait_for("serving")
    _, alive = await asyncio.to_thread(psutil.wait_procs, engine, timeout=10)
    assert alive == []
    assert await world.booked(before.received, before.sent) == before.received
    after = await world.generate()
    assert await world.booked(after.received, after.sent) == after.received


async def test_a_daemon_without_descriptors_serves_counts_and_keeps_its_engine(world: World) -> None:
    incarnation = (await world.node.status())["engine"]["incarnation"]
    daemon = world.node.process.pid
    said = len(world.node.log_file.read_text())
    soft, hard = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, (3, hard))
    try:
        async with asyncio.timeout(NOTICED_WITHIN_S):
            while "(engine-unseen)" not in world.node.log_file.read_text():
                await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(world.node.status(), 1.0)
        done = await world.generate()
    finally:
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (soft, hard))
    assert await world.booked(done.received, done.sent) == done.received
    assert "Traceback" not in world.node.log_file.read_text()[said:]
    assert world.node.process.pid == daemon
    assert world.node.process.returncode is None
    assert (await world.node.status())["engine"]["incarnation"] == incarnation


async def test_a_stopped_runtime_is_noticed_replaced_and_costs_no_count(world: World) -> None:
    await world.withstands("main", signal.SIGSTOP)


async def test_a_kill_in_the_middle_of_a_generation_costs_no_count(world: World) -> None:
    before = await world.generate(LONG)
    incarnation = (await world.node.status())["engine"]["incarnation"]
    tokens: asyncio.Queue[int] = asyncio.Queue()
    generation = asyncio.create_task(
        world.client.generate(Request(LONG, ids=PROMPT), on_token=tokens.put_nowait, timeout_s=180)
    )
    async with asyncio.timeout(60):
        for _ in range(3):
            await tokens.get()
    main = await world.engine_process("main")
    assert not generation.done()
    os.kill(main.pid, signal.SIGKILL)
    await world.serving_again(incarnation)
    after = await generation
    assert after.ids == before.ids
    await world.booked(after.received, after.sent)


async def test_the_stopped_node_has_reported_everything_and_leaves_nothing(world: World) -> None:
    first = await world.generate()
    booked = await world.booked(first.received, first.sent)
    last = await world.generate()
    daemon = psutil.Process(world.node.process.pid)
    everything = [daemon, *daemon.children(recursive=True)]
    assert await world.node.stop() == 0
    assert [process for process in everything if alive(process)] == []
    assert (await world.oracle.agent(world.agent)).booked_tokens == booked + last.received - first.received
