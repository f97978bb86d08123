"""Rewards: claimed once, previewed, only where they are worth the gas; and what the AgentRegistry needs for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plumised.chain.addresses import AGENT_REGISTRY, REWARD_POOL
from plumised.chain.claims import CLAIM_GAS, Claimable, Claimed, ClaimPolicy
from plumised.chain.problems import ChainProblem
from plumised.chain.registry import Enrolled, Standing
from plumised.ledger.records import TransactionState
from plumised.ledger.thread import LedgerThread
from tests.devnet.chain import DevChain, FaultMode, MiningMode
from tests.integration.chain_node import Engine, agent, confirmed, problem, registered
from tests.integration.chain_world import AGENT, PLM, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.chain.agent import ChainAgent
    from plumised.chain.snapshot import ChainSnapshot
    from plumised.ledger.records import StoredTransaction

BASE_FEE = 5_000_001
AUTO = ClaimPolicy(automatic=True, threshold_wei=PLM, gain_factor=10.0, look_s=0.2, longest_retry_s=0.5)


async def in_registry(node: ChainAgent) -> Enrolled:
    enrolled = await node.enrol(dry_run=False)
    assert isinstance(enrolled, Enrolled)
    return enrolled


async def claimed(node: ChainAgent, count: int = 1) -> ChainSnapshot:
    return await eventually(node.snapshot, lambda seen: seen.claims.count >= count)


async def stored_claim(directory: Path) -> StoredTransaction:
    async with await LedgerThread.open(directory / "ledger.db", lambda: 0.0) as ledger:
        (found,) = [each for each in await ledger.recent_transactions(1000) if each.purpose == "claim"]
        return found


async def test_reward_is_claimed_and_its_event_read_back(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain:
        async with agent(tmp_path, chain.url, registry=AGENT_REGISTRY) as node:
            await registered(node)
            await in_registry(node)
            await chain.admin.set_reward(AGENT, 5 * PLM)

            answer = await node.claim()

            (mined,) = await chain.admin.claims()
            assert answer == Claimed(5 * PLM, mined.transaction.hash, mined.transaction.fee_wei)
            assert node.snapshot().claims.wei == mined.wei == 5 * PLM
        stored = await stored_claim(tmp_path)
        assert (stored.state, stored.detail) == (TransactionState.MINED, f"claimed {5 * PLM} wei")


async def test_preview_tells_what_a_claim_brings_and_sends_nothing(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.set_reward(AGENT, 5 * PLM)

        answer = await node.preview_claim()

        assert isinstance(answer, Claimable)
        assert answer.wei == 5 * PLM
        assert not await chain.admin.claims()


async def test_reward_above_the_threshold_is_claimed_by_itself_once(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=AUTO) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.set_reward(AGENT, PLM)

        seen = await claimed(node)
        assert seen.claims.wei == PLM
        await confirmed(node, seen.pulse.confirmed + 2)
        assert len(await chain.admin.claims()) == 1


async def test_reward_below_the_threshold_is_left(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=AUTO) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.set_reward(AGENT, PLM - 1)
        await eventually(node.snapshot, lambda seen: seen.rewards is not None and seen.rewards.pending_wei == PLM - 1)
        seen = await confirmed(node, node.snapshot().pulse.confirmed + 2)

        assert seen.claim_note is None
        assert not await chain.admin.claims()


async def test_nothing_is_claimed_by_itself_unless_that_is_wanted(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=replace(AUTO, automatic=False)) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.set_reward(AGENT, 5 * PLM)
        await confirmed(node, node.snapshot().pulse.confirmed + 2)

        assert not await chain.admin.claims()


async def test_reward_that_gas_would_eat_is_left_until_gas_is_cheap(tmp_path: Path) -> None:
    base_fee = 10**9
    reward = 10 * CLAIM_GAS * base_fee // 2
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=base_fee) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=replace(AUTO, threshold_wei=1)) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.set_reward(AGENT, reward)
        seen = await eventually(node.snapshot, lambda seen: seen.claim_note is not None)
        assert seen.claim_note is not None
        assert seen.claim_note.code == "claim-not-worthwhile"
        assert str(reward) in seen.claim_note.message
        assert "claim-not-worthwhile" not in {each.code for each in seen.problems}
        assert not await chain.admin.claims()

        await chain.admin.set_fees(base_fee=10**8)
        await claimed(node)
        (mined,) = await chain.admin.claims()
        assert mined.transaction.fee_wei * 10 <= reward


async def test_replacements_of_a_claim_never_eat_the_reward(tmp_path: Path) -> None:
    base_fee = 10**8
    reward = 12 * CLAIM_GAS * base_fee
    claiming = replace(AUTO, threshold_wei=1)
    silent = Engine(serving=False)
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=base_fee) as chain,
        agent(tmp_path, chain.url, engine=silent, registry=AGENT_REGISTRY, claiming=claiming) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.set_mining(MiningMode.MANUAL)
        await chain.admin.set_reward(AGENT, reward)

        await problem(node, "transaction-stuck")

    stored = await stored_claim(tmp_path)
    assert stored.fee_cap == reward // (10 * CLAIM_GAS)
    assert max(attempt.max_fee_per_gas for attempt in stored.attempts) <= stored.fee_cap


async def test_agent_that_the_registry_does_not_have_is_told_what_to_do(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=AUTO) as node,
    ):
        await registered(node)
        await chain.admin.set_reward(AGENT, 5 * PLM)

        seen = await problem(node, "registry-missing")

        told = next(each for each in seen.problems if each.code == "registry-missing")
        assert told.remedy == "Run plumised register --registry."
        assert seen.standing == Standing(registered=False, active=False)
        assert not await chain.admin.claims()


async def test_registry_takes_the_agent_once(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY) as node,
    ):
        await registered(node)
        tried = await node.enrol(dry_run=True)
        assert tried == Enrolled(f"register {AGENT} in the AgentRegistry")

        first, again = await in_registry(node), await in_registry(node)

        assert first.hash is not None
        assert again == Enrolled("")
        found = await chain.admin.agent(AGENT)
        assert found is not None
        assert found.in_registry
        assert [each.to for each in await chain.admin.transactions(AGENT)].count(AGENT_REGISTRY) == 1


async def test_registry_that_lost_sight_of_the_agent_gets_a_heartbeat(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY) as node,
    ):
        await registered(node)
        await in_registry(node)
        await chain.admin.advance_clock(600)

        enrolled = await in_registry(node)

        assert enrolled.did.startswith("wake ")
        await eventually(node.snapshot, lambda seen: seen.standing == Standing(registered=True, active=True))


async def test_chain_without_the_registry_says_so(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await registered(node)
        answer = await node.enrol(dry_run=False)
        assert isinstance(answer, ChainProblem)
        assert answer.code == "registry-unknown"


async def test_no_reward_is_told_as_that(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url, registry=AGENT_REGISTRY) as node:
        await registered(node)
        answer = await node.claim()
        assert isinstance(answer, ChainProblem)
        assert answer.code == "rewards-none"
        assert await chain.admin.calls("eth_sendRawTransaction")
        assert {each.to for each in await chain.admin.transactions(AGENT)} & {REWARD_POOL} == set()


async def test_claim_that_the_pool_would_refuse_is_not_sent(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await registered(node)
        await chain.admin.set_reward(AGENT, 5 * PLM)

        answer = await node.claim()

        assert isinstance(answer, ChainProblem)
        assert answer.code == "claim-would-fail"
        assert "Not registered" in answer.message
        assert not await chain.admin.claims()


async def test_claim_in_flight_at_a_crash_is_counted_when_it_is_taken_up(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain:
        async with agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=AUTO) as node:
            await registered(node)
            await in_registry(node)
            await chain.admin.fault(FaultMode.HANG, "eth_sendRawTransaction")
            await chain.admin.set_reward(AGENT, 5 * PLM)
            await eventually(
                node.snapshot,
                lambda seen: seen.queue.in_flight is not None and seen.queue.in_flight.purpose == "claim",
            )
        await chain.admin.clear_faults()

        async with agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=AUTO) as node:
            seen = await claimed(node)

        assert seen.claims.wei == 5 * PLM
        assert len(await chain.admin.claims()) == 1
