"""The whole daemon with the devnet's chain: rewards by hand, several problems at once, no core file."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plumised.chain.addresses import AGENT_REGISTRY
from plumised.cli import main
from tests.devnet.chain import DevChain, FaultMode
from tests.devnet.node import DevNode, key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.timeout(180)

NO_ENGINE = Path("/nonexistent/python")
PLM = 10**18
PATIENCE_S = 60.0


@asynccontextmanager
async def daemon(place: Path, chain: DevChain, **rewards: object) -> AsyncIterator[DevNode]:
    """A node whose engine cannot be started, with heartbeats nevertheless."""
    extra: dict[str, dict[str, object]] = {
        "oracle": {"enabled": False},
        "chain": {"heartbeat_when": "always", "heartbeat_interval_s": 5.0, "low_balance_plm": 2.0},
        "rewards": rewards,
    }
    node = DevNode(
        place / "node", place, "0:1", key(0xAA), "http://127.0.0.1:9", chain.url, extra=extra, python=NO_ENGINE
    )
    await chain.admin.fund(node.prepare(), PLM)
    async with node:
        yield node


async def seen(node: DevNode, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while not fits(status := await node.status()):
            await asyncio.sleep(0.05)
    return status


async def plumised(node: DevNode, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    socket = node.directory / "run" / "control.sock"
    done = await asyncio.to_thread(main, [*arguments, "--socket", str(socket)])
    out = capsys.readouterr()
    return done, out.out, out.err


async def test_rewards_are_claimed_by_hand_through_the_running_daemon(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with DevChain(base_fee=5_000_001) as chain, daemon(place, chain) as node:
        agent = (await node.wait_for("registered"))["wallet"]["agent"]
        await chain.admin.set_reward(agent, 5 * PLM)

        done, _, err = await plumised(node, capsys, "rewards", "--claim")
        assert done == 1
        assert "(registry-missing). Run plumised register --registry." in err
        assert not await chain.admin.claims()

        done, out, _ = await plumised(node, capsys, "register", "--registry")
        assert done == 0
        assert out.startswith(f"Done: register {agent} in the AgentRegistry (0x")

        done, out, _ = await plumised(node, capsys, "rewards", "--claim", "--dry-run")
        assert done == 0
        assert out.startswith("A claim would bring 5 PLM")
        assert not await chain.admin.claims()

        done, out, _ = await plumised(node, capsys, "rewards", "--claim", "--json")
        (claim,) = await chain.admin.claims()
        assert (done, json.loads(out)["amount_wei"]) == (0, str(5 * PLM))
        assert json.loads(out)["transaction"] == claim.transaction.hash

        done, out, _ = await plumised(node, capsys, "rewards")
        assert done == 0
        assert "claimed       5 PLM since the daemon started\n" in out
        mined = await chain.admin.transactions(agent)
        assert [each.nonce for each in mined] == list(range(len(mined)))
        assert [each.to for each in mined].count(AGENT_REGISTRY) == 1


async def test_every_problem_of_the_chain_is_in_the_status(place: Path) -> None:
    async with DevChain(base_fee=5_000_001) as chain:
        await chain.admin.fault(FaultMode.ANSWER, "eth_call", result="0x")
        async with daemon(place, chain) as node:
            await node.wait_for_control()
            status = await seen(node, lambda status: len(status["chain"]["troubles"]) >= 2)

    codes = {trouble["code"] for trouble in status["chain"]["troubles"]}
    assert {"balance-low", "rewards-unreadable"} <= codes
    assert codes <= {problem["code"] for problem in status["problems"]}


async def test_daemon_leaves_no_core_file(place: Path) -> None:
    async with DevChain() as chain, daemon(place, chain) as node:
        await node.wait_for("registered")
        limits = Path(f"/proc/{node.process.pid}/limits").read_text(encoding="utf-8")
        (core,) = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
