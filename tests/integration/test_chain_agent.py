from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from plumised.errors import PlumisedError
from tests.devnet.chain import DevChain, FaultMode, MiningMode
from tests.integration.chain_node import Engine, Sponsor, agent, confirmed, problem, registered
from tests.integration.chain_world import AGENT, PLM, REGISTER, eventually, running, world

if TYPE_CHECKING:
    from pathlib import Path


async def register_from_elsewhere(directory: Path, chain: DevChain) -> None:
    await asyncio.to_thread(directory.mkdir)
    async with world(directory, chain.url) as elsewhere:
        await elsewhere.queue.submit(REGISTER)


async def test_node_registers_its_agent_and_keeps_it_alive(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=5_000_001) as chain, agent(tmp_path, chain.url) as node:
        await eventually(lambda: node.snapshot().registration_hash)
        seen = await confirmed(node, 2)

        found = await chain.admin.agent(AGENT)
        assert found is not None
        assert found.name == "bloom-560m-E4855A4F"
        beats = await chain.admin.heartbeats(AGENT)
        assert seen.pulse.last_hash in {beat.transaction.hash for beat in beats}
        assert seen.registration_hash == (await chain.admin.transactions(AGENT))[0].hash
        assert seen.problems == ()


async def test_registered_agent_is_not_registered_again(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        await register_from_elsewhere(tmp_path / "elsewhere", chain)
        async with agent(tmp_path, chain.url) as node:
            await confirmed(node)

        every = await chain.admin.transactions(AGENT)
        assert [each.to for each in every].count(REGISTER.to) == 1


async def test_restarted_node_does_not_register_again(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        async with agent(tmp_path, chain.url) as node:
            first = await eventually(lambda: node.snapshot().registration_hash)
        async with agent(tmp_path, chain.url) as node:
            await confirmed(node)
            assert await eventually(lambda: node.snapshot().registration_hash) == first

        every = await chain.admin.transactions(AGENT)
        assert [each.to for each in every].count(REGISTER.to) == 1


async def test_node_without_agent_methods_is_asked_by_simulated_calls(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        await chain.admin.fault(FaultMode.NO_AGENT_METHODS)
        async with agent(tmp_path, chain.url) as node:
            seen = await confirmed(node)

            assert seen.registered_by == "simulated calls"
            assert await chain.admin.agent(AGENT) is not None


async def test_agent_without_a_balance_is_registered_by_the_sponsor(tmp_path: Path) -> None:
    async with DevChain(base_fee=5_000_001) as chain:

        async def pay() -> None:
            await chain.admin.fund(AGENT, PLM)
            await register_from_elsewhere(tmp_path / "elsewhere", chain)

        sponsor = Sponsor(pay)
        async with agent(tmp_path, chain.url, sponsor=sponsor) as node:
            await registered(node)
            assert sponsor.calls == 1


async def test_refused_sponsorship_says_what_to_do(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise PlumisedError("The Oracle is down", "Wait for it.")

    async with (
        DevChain(base_fee=5_000_001) as chain,
        agent(tmp_path, chain.url, sponsor=Sponsor(refuse)) as node,
    ):
        seen = await problem(node, "registration-not-sponsored")

        told = next(each for each in seen.problems if each.code == "registration-not-sponsored")
        assert "The Oracle is down" in told.message
        assert AGENT in told.remedy
        assert told.retry_at is not None


async def test_funds_that_arrive_later_are_used(tmp_path: Path) -> None:
    async with DevChain(base_fee=5_000_001) as chain, agent(tmp_path, chain.url) as node:
        await problem(node, "insufficient-funds")
        await chain.admin.fund(AGENT, PLM)

        seen = await confirmed(node)
        assert seen.registered


async def test_heartbeats_are_sent_only_while_the_engine_serves(tmp_path: Path) -> None:
    engine = Engine(serving=False)
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url, engine=engine) as node:
        await registered(node)
        seen = await eventually(node.snapshot, lambda seen: seen.rewards is not None)
        assert seen.pulse.sent == seen.pulse.missed == 0
        assert not await chain.admin.heartbeats(AGENT)

        engine.serving = True
        await confirmed(node)


async def test_heartbeats_do_not_pile_up_while_nothing_is_mined(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        before = await confirmed(node)
        await chain.admin.set_mining(MiningMode.MANUAL)
        seen = await eventually(node.snapshot, lambda seen: seen.pulse.missed >= before.pulse.missed + 2)
        assert seen.pulse.last_missed is not None
        assert seen.pulse.last_missed.code in {"heartbeat-pending", "transaction-pending", "transaction-stuck"}
        assert len(await chain.admin.pool()) == 1

        await chain.admin.set_mining(MiningMode.INSTANT)
        caught_up = await confirmed(node, seen.pulse.confirmed + 1)
        assert len(await chain.admin.heartbeats(AGENT)) >= caught_up.pulse.confirmed


async def test_missed_heartbeats_are_counted_with_their_reason_and_made_up_for(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        before = await confirmed(node)
        await chain.admin.fault(FaultMode.REFUSE)
        seen = await eventually(node.snapshot, lambda seen: seen.pulse.missed > before.pulse.missed)
        assert seen.pulse.last_missed is not None
        assert seen.pulse.last_missed.code == "rpc-none-usable"

        await chain.admin.clear_faults()
        after = await eventually(node.snapshot, lambda now: now.pulse.confirmed > seen.pulse.confirmed)
        assert after.pulse.last_missed is None


async def test_chain_that_is_down_at_the_start_is_caught_up_with(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        await chain.admin.fault(FaultMode.REFUSE)
        async with agent(tmp_path, chain.url) as node:
            seen = await problem(node, "rpc-none-usable")
            assert seen.registered is None
            assert all(each.remedy for each in seen.problems)

            await chain.admin.clear_faults()
            await confirmed(node)
            await eventually(node.snapshot, lambda seen: seen.problems == ())


async def test_wrong_chain_is_refused_and_said(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        await chain.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=1)
        async with agent(tmp_path, chain.url) as node:
            seen = await problem(node, "rpc-none-usable")
            assert any("serves chain 1, not 41956" in each.message for each in seen.problems)
            assert not await chain.admin.calls("eth_sendRawTransaction")


async def test_registration_that_is_reorganised_away_is_made_again(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await confirmed(node)
        await chain.admin.reorganise((await chain.admin.status()).height, forget=True)
        assert await chain.admin.agent(AGENT) is None

        await chain.admin.wait_for(lambda: chain.admin.agent(AGENT))
        await chain.admin.wait_for(lambda: chain.admin.heartbeats(AGENT))
        await registered(node)


async def test_somebody_elses_doubt_has_the_registration_checked(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await registered(node)
        await chain.admin.forget_calls()

        node.request_registration()

        await chain.admin.wait_for(lambda: chain.admin.calls("agent_isAgentAccount"))


async def test_low_balance_is_said_early_with_amount_and_address(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=5_000_001) as chain,
        agent(tmp_path, chain.url, low_balance_wei=2 * PLM) as node,
    ):
        seen = await problem(node, "balance-low")

        told = next(each for each in seen.problems if each.code == "balance-low")
        assert seen.balance_low
        assert str(seen.balance_wei) in told.message
        assert AGENT in told.remedy


async def test_balance_is_never_low_where_nothing_costs(tmp_path: Path) -> None:
    async with DevChain() as chain, agent(tmp_path, chain.url, low_balance_wei=PLM) as node:
        seen = await eventually(node.snapshot, lambda seen: seen.balance_wei is not None)
        assert not seen.balance_low


async def test_pending_reward_and_contribution_are_shown(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await chain.admin.set_reward(AGENT, 5 * PLM)
        await chain.admin.set_contribution(AGENT, (1, 2, 3, 4, 5, 6))

        seen = await eventually(
            node.snapshot, lambda seen: seen.rewards is not None and seen.rewards.contribution[0] == 1
        )

        assert seen.rewards is not None
        assert seen.rewards.pending_wei == 5 * PLM
        assert seen.rewards.contribution == (1, 2, 3, 4, 5, 6)


async def test_old_blocks_are_a_problem_that_is_shown(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, clock=lambda: time.time() - 3600) as chain,
        agent(tmp_path, chain.url) as node,
    ):
        seen = await problem(node, "rpc-behind")
        assert seen.rpc.in_use == chain.url


async def test_chain_side_that_ended_can_be_run_again(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url, started=False) as node:
        async with running(node.run()):
            await confirmed(node)
            await chain.admin.set_mining(MiningMode.MANUAL)
            await chain.admin.wait_for(chain.admin.pool)
        await chain.admin.set_mining(MiningMode.INSTANT)

        before = node.snapshot().pulse.confirmed
        async with running(node.run()):
            await confirmed(node, before + 1)
            mined = await chain.admin.transactions(AGENT)
            assert [each.nonce for each in mined] == list(range(len(mined)))


async def test_heartbeat_in_flight_at_a_crash_is_counted_when_it_is_taken_up(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        async with agent(tmp_path, chain.url) as node:
            await confirmed(node)
            await chain.admin.set_mining(MiningMode.MANUAL)
            (waiting,) = await chain.admin.wait_for(chain.admin.pool)
        mined = len(await chain.admin.heartbeats(AGENT))
        silent = Engine(serving=False)
        async with agent(tmp_path, chain.url, engine=silent) as node:
            await eventually(node.snapshot, lambda seen: seen.queue.in_flight is not None)
            await chain.admin.set_mining(MiningMode.INSTANT)
            seen = await confirmed(node)

        assert (seen.pulse.confirmed, seen.pulse.missed) == (1, 0)
        assert len(await chain.admin.heartbeats(AGENT)) == mined + 1
        assert waiting.nonce in {each.transaction.nonce for each in await chain.admin.heartbeats(AGENT)}


async def test_missed_heartbeats_are_counted_by_their_reason(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await confirmed(node)
        await chain.admin.fault(FaultMode.REFUSE)
        await eventually(node.snapshot, lambda seen: dict(seen.pulse.missed_by).get("rpc-none-usable", 0) >= 2)
        await chain.admin.clear_faults()
        after = await confirmed(node, node.snapshot().pulse.confirmed + 1)

        assert sum(dict(after.pulse.missed_by).values()) == after.pulse.missed


async def test_several_problems_are_told_at_once(tmp_path: Path) -> None:
    async with (
        DevChain(base_fee=5_000_001) as chain,
        agent(tmp_path, chain.url, low_balance_wei=PLM, reward_pool="0x" + "11" * 20) as node,
    ):
        wanted = {"insufficient-funds", "balance-low", "rewards-unreadable", "agent-unregistered"}
        seen = await eventually(node.snapshot, lambda seen: wanted <= {each.code for each in seen.problems})
        assert all(each.remedy for each in seen.problems)
