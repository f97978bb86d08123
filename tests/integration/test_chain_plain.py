"""A chain that is a plain EVM: no precompiles, no agent_* methods. The node remembers what it did there itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from plumised.chain.addresses import REGISTER_AGENT
from plumised.chain.registration import Source
from plumised.ledger.thread import LedgerThread
from tests.devnet.chain.anvil import PlainNode, plain_node, plain_nodes
from tests.integration.chain_node import agent, confirmed, problem
from tests.integration.chain_world import AGENT, PLM, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(params=plain_nodes()[1:])
async def plain(request: pytest.FixtureRequest) -> AsyncIterator[PlainNode]:
    async with plain_node(request.param) as node:
        await node.fund(AGENT, PLM)
        yield node


async def registrations(directory: Path) -> int:
    async with await LedgerThread.open(directory / "ledger.db", time.time) as ledger:
        return [each.to for each in await ledger.recent_transactions(1000)].count(REGISTER_AGENT)


async def test_agent_registers_once_and_beats_over_restarts(tmp_path: Path, plain: PlainNode) -> None:
    for _ in range(3):
        async with agent(tmp_path, plain.url) as node:
            seen = await confirmed(node)
            assert seen.registered_by == Source.RECEIPT
    assert await registrations(tmp_path) == 1


async def test_registration_whose_receipt_was_noted_just_before_a_crash_is_remembered(
    tmp_path: Path, plain: PlainNode
) -> None:
    async with agent(tmp_path, plain.url) as node:
        await confirmed(node)
    async with await LedgerThread.open(tmp_path / "ledger.db", time.time) as ledger:
        await ledger.set_fact(f"chain.registration.41956.{AGENT}", None)

    async with agent(tmp_path, plain.url) as node:
        await eventually(lambda: node.snapshot().registration_hash)
    assert await registrations(tmp_path) == 1


async def test_reward_pool_that_is_not_there_is_told(tmp_path: Path, plain: PlainNode) -> None:
    async with agent(tmp_path, plain.url) as node:
        seen = await problem(node, "rewards-unreadable")
        assert seen.rewards is None
