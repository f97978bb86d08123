from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from plumised.chain.drafts import Draft, stored_form
from plumised.chain.fees import DynamicFee
from plumised.chain.orders import AlreadyPendingError, Confirmed, Failed, Reverted
from plumised.ledger.records import StoredTransaction, TransactionState
from tests.devnet.chain import CHAIN_ID, BelowBaseFee, DevChain, FaultMode, MiningMode
from tests.integration.chain_world import (
    AGENT,
    BEAT,
    CAP,
    FAST,
    PATIENT,
    PLM,
    REGISTER,
    WALLET,
    Forwarder,
    eventually,
    running,
    send_by_hand,
    world,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import JsonValue

    from plumised.ledger.thread import LedgerThread
    from tests.devnet.chain.model import PoolInfo

SEND = "eth_sendRawTransaction"


async def pool_of(chain: DevChain, count: int = 1) -> tuple[PoolInfo, ...]:
    return await chain.admin.wait_for(chain.admin.pool, lambda pool: len(pool) == count)


async def newest(ledger: LedgerThread) -> StoredTransaction:
    return (await ledger.recent_transactions(1))[0]


async def sent_count(chain: DevChain) -> int:
    return len(await chain.admin.calls(SEND))


async def test_order_is_mined_and_remembered(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=5_000_001) as chain, world(tmp_path, chain.url) as node:
        outcome = await node.queue.submit(REGISTER)

        assert isinstance(outcome, Confirmed)
        (mined,) = await chain.admin.transactions(AGENT)
        assert (outcome.hash, outcome.block_number, outcome.cost_wei) == (mined.hash, mined.block, mined.fee_wei)
        stored = await newest(node.ledger)
        assert (stored.state, stored.mined_hash) == (TransactionState.MINED, mined.hash)


async def test_transaction_is_in_the_ledger_before_a_node_sees_it(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        await chain.admin.fault(FaultMode.HANG, SEND)
        async with running(node.queue.submit(REGISTER)):
            (call,) = await chain.admin.wait_for(lambda: chain.admin.calls(SEND))
            (stored,) = await node.ledger.unfinished_transactions(CHAIN_ID, AGENT)
            assert call.params == ["0x" + stored.attempts[0].raw.hex()]


async def test_order_that_would_fail_is_never_sent(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        outcome = await node.queue.submit(BEAT)

        assert isinstance(outcome, Failed)
        assert outcome.problem.code == "transaction-would-fail"
        assert await sent_count(chain) == 0


async def test_agent_that_cannot_pay_is_told_the_amounts_and_nothing_is_sent(tmp_path: Path) -> None:
    async with DevChain(base_fee=5_000_001) as chain, world(tmp_path, chain.url) as node:
        outcome = await node.queue.submit(REGISTER)

        assert isinstance(outcome, Failed)
        assert outcome.problem.code == "insufficient-funds"
        assert AGENT in outcome.problem.remedy
        assert str(5_000_001 * REGISTER.gas) in outcome.problem.message
        assert await sent_count(chain) == 0


async def test_chain_without_fees_is_used_without_a_balance(tmp_path: Path) -> None:
    async with DevChain() as chain, world(tmp_path, chain.url) as node:
        assert isinstance(await node.queue.submit(REGISTER), Confirmed)


async def test_chain_without_base_fee_gets_a_legacy_transaction(tmp_path: Path) -> None:
    head: dict[str, JsonValue] = {"number": "0x0", "timestamp": hex(int(time.time()))}
    async with DevChain(funds={AGENT: PLM}, min_tip=7) as chain, world(tmp_path, chain.url) as node:
        await chain.admin.fault(FaultMode.ANSWER, "eth_getBlockByNumber", result=head)

        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        (attempt,) = (await newest(node.ledger)).attempts
        assert attempt.max_priority_fee_per_gas is None
        assert attempt.max_fee_per_gas >= 7


async def test_fee_above_the_cap_is_not_paid(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=CAP + 1) as chain, world(tmp_path, chain.url) as node:
        outcome = await node.queue.submit(REGISTER)

        assert isinstance(outcome, Failed)
        assert outcome.problem.code == "fees-above-cap"
        assert await sent_count(chain) == 0


async def test_second_order_of_a_kind_is_refused_while_one_is_on_its_way(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
        running(node.queue.submit(REGISTER)),
    ):
        await pool_of(chain)
        with pytest.raises(AlreadyPendingError):
            await node.queue.submit(REGISTER)


async def test_orders_of_different_kinds_are_sent_one_after_the_other(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        outcomes = await asyncio.gather(node.queue.submit(REGISTER), node.queue.submit(BEAT))

        assert [type(outcome) for outcome in outcomes] == [Confirmed, Confirmed]
        assert [each.nonce for each in await chain.admin.transactions(AGENT)] == [0, 1]


async def test_lost_reply_does_not_send_another_transaction(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        await chain.admin.fault(FaultMode.LOSE_REPLY, SEND, count=1)

        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        assert len(await chain.admin.transactions(AGENT)) == 1


async def test_transaction_that_never_arrived_is_sent_again_unchanged(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url, policy=PATIENT) as node:
        await chain.admin.fault(FaultMode.DROP, SEND, count=1)

        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        first, second = await chain.admin.calls(SEND)
        assert first.params == second.params


async def test_already_known_counts_as_taken(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        await chain.admin.fault(FaultMode.ANSWER, "eth_getTransactionByHash", result=None)
        await chain.admin.fault(FaultMode.ANSWER, "eth_getTransactionCount", result="0x0")
        await chain.admin.wait_for(lambda: sent_count(chain), lambda count: count >= 2)
        await chain.admin.clear_faults()
        await chain.admin.mine()

        assert isinstance(await order, Confirmed)
        assert len((await newest(node.ledger)).attempts) == 1


async def test_stuck_transaction_is_replaced_at_the_same_nonce_for_an_eighth_more(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=5_000_001) as chain,
        world(tmp_path, chain.url) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        (first,) = await pool_of(chain)
        (second,) = await chain.admin.wait_for(chain.admin.pool, lambda pool: pool[0].hash != first.hash)
        await chain.admin.mine()

        assert isinstance(await order, Confirmed)
        assert second.nonce == first.nonce
        assert second.fee_cap * 8 >= first.fee_cap * 9
        assert second.tip_cap * 8 >= first.tip_cap * 9
        assert len(await chain.admin.transactions(AGENT)) == 1


async def test_transaction_below_a_risen_base_fee_is_raised_to_what_the_chain_asks(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=1_000_000) as chain,
        world(tmp_path, chain.url) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        await pool_of(chain)
        await chain.admin.set_fees(base_fee=8_000_000, below_base_fee=BelowBaseFee.KEEP)
        await chain.admin.wait_for(chain.admin.pool, lambda pool: pool[0].fee_cap >= 8_000_000)
        await chain.admin.mine()

        assert isinstance(await order, Confirmed)


async def test_no_replacement_exceeds_the_cap_and_the_order_is_given_up(tmp_path: Path) -> None:
    cap = 12_000_000
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=5_000_001) as chain,
        world(tmp_path, chain.url, fee_cap=cap) as node,
    ):
        outcome = await node.queue.submit(REGISTER)

        assert isinstance(outcome, Failed)
        assert outcome.problem.code == "transaction-stuck"
        fees = [attempt.max_fee_per_gas for attempt in (await newest(node.ledger)).attempts]
        assert len(fees) > 1
        assert max(fees) <= cap


async def test_replacement_that_the_balance_does_not_cover_is_not_signed(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=5_000_001) as chain,
        world(tmp_path, chain.url) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        (waiting,) = await pool_of(chain)
        await chain.admin.set_balance(AGENT, waiting.fee_cap * waiting.gas)

        outcome = await order
        assert isinstance(outcome, Failed)
        assert outcome.problem.code == "transaction-stuck"
        assert len((await newest(node.ledger)).attempts) == 1


async def test_given_up_transaction_holds_its_place_until_it_is_mined(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url) as node,
    ):
        assert isinstance(await node.queue.submit(REGISTER), Failed)
        with pytest.raises(AlreadyPendingError):
            await node.queue.submit(REGISTER)
        assert len(await pool_of(chain)) == 1

        await chain.admin.set_mining(MiningMode.INSTANT)
        await eventually(node.queue.status, lambda status: status.in_flight is None)

        assert isinstance(await node.queue.submit(BEAT), Confirmed)


async def test_attempts_are_bounded(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url) as node,
    ):
        await node.queue.submit(REGISTER)
        assert len((await newest(node.ledger)).attempts) == FAST.most_attempts


async def test_dropped_transaction_is_handed_over_again(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        (waiting,) = await pool_of(chain)
        await chain.admin.drop(waiting.hash)
        (again,) = await pool_of(chain)
        await chain.admin.mine()

        assert again.hash == waiting.hash
        assert isinstance(await order, Confirmed)


async def test_nonce_taken_by_another_program_leaves_no_gap(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
    ):
        await node.queue.submit(REGISTER)
        await chain.admin.set_mining(MiningMode.MANUAL)
        async with running(node.queue.submit(BEAT)) as order:
            (ours,) = await pool_of(chain)
            theirs = await send_by_hand(node.chain, ours.nonce, to=AGENT, data=b"", fee=DynamicFee(CAP, CAP))
            await chain.admin.set_mining(MiningMode.INSTANT)

            assert isinstance(await order, Confirmed)

        mined = await chain.admin.transactions(AGENT)
        assert [each.nonce for each in mined] == [0, 1, 2]
        assert mined[1].hash == theirs


async def test_nonce_that_turns_out_to_be_used_is_chosen_anew(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url, policy=PATIENT) as node:
        await send_by_hand(node.chain, 0)
        await chain.admin.fault(FaultMode.ANSWER, "eth_getTransactionCount", result="0x0", count=2)

        assert isinstance(await node.queue.submit(BEAT), Confirmed)
        assert [each.nonce for each in await chain.admin.transactions(AGENT)] == [0, 1]


async def test_transaction_that_is_mined_and_fails_is_reported_as_reverted(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
    ):
        await send_by_hand(node.chain, 0)
        async with running(node.queue.submit(REGISTER)) as order:
            await pool_of(chain, 2)
            await chain.admin.mine()

            outcome = await order

        assert isinstance(outcome, Reverted)
        assert (await newest(node.ledger)).state is TransactionState.REVERTED


@pytest.mark.parametrize("forget", [False, True])
async def test_transaction_that_is_reorganised_away_comes_back_once(tmp_path: Path, *, forget: bool) -> None:
    deep = replace(REGISTER, depth=2)
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
        running(node.queue.submit(deep)) as order,
    ):
        await pool_of(chain)
        await chain.admin.mine()
        await chain.admin.forget_calls()
        await chain.admin.wait_for(lambda: chain.admin.calls("eth_getTransactionReceipt"))
        await chain.admin.reorganise(1, forget=forget)
        await pool_of(chain)
        await chain.admin.mine(3)

        assert isinstance(await order, Confirmed)
        assert len(await chain.admin.transactions(AGENT)) == 1


async def test_pending_transaction_is_taken_up_after_a_crash(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain:
        async with world(tmp_path, chain.url, policy=PATIENT) as node, running(node.queue.submit(REGISTER)):
            (waiting,) = await pool_of(chain)

        async with world(tmp_path, chain.url, policy=PATIENT) as node:
            await eventually(node.queue.status, lambda status: status.in_flight is not None)
            with pytest.raises(AlreadyPendingError):
                await node.queue.submit(REGISTER)
            await chain.admin.mine(3)
            await eventually(node.queue.status, lambda status: status.in_flight is None)

            (mined,) = await chain.admin.transactions(AGENT)
            assert mined.hash == waiting.hash
            assert (await newest(node.ledger)).state is TransactionState.MINED


async def test_crash_between_signing_and_sending_sends_the_signed_bytes_later(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        await chain.admin.fault(FaultMode.HANG, SEND)
        async with world(tmp_path, chain.url) as node, running(node.queue.submit(REGISTER)):
            await chain.admin.wait_for(lambda: chain.admin.calls(SEND))
            signed = (await newest(node.ledger)).attempts[0]
        await chain.admin.clear_faults()

        async with world(tmp_path, chain.url) as node:
            await chain.admin.wait_for(lambda: chain.admin.transactions(AGENT))
            await eventually(node.queue.status, lambda status: status.in_flight is None)

            assert [each.hash for each in await chain.admin.transactions(AGENT)] == [signed.hash]


async def test_transaction_mined_while_the_node_was_down_is_noted(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain:
        async with world(tmp_path, chain.url, policy=PATIENT) as node, running(node.queue.submit(REGISTER)):
            await pool_of(chain)
        await chain.admin.set_mining(MiningMode.INSTANT)

        async with world(tmp_path, chain.url) as node:
            assert isinstance(await node.queue.submit(BEAT), Confirmed)

            stored = await node.ledger.recent_transactions(2)
            assert [each.purpose for each in stored] == ["heartbeat", "register"]
            assert {each.state for each in stored} == {TransactionState.MINED}


async def test_stored_transaction_that_became_useless_is_not_sent(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain:
        async with world(tmp_path, chain.url) as node:
            await node.queue.submit(REGISTER)
            await node.ledger.save_transaction(
                stored_form(WALLET, CHAIN_ID, REGISTER, Draft(1, DynamicFee(CAP, 1)), time.time())
            )
        await chain.admin.forget_calls()

        async with world(tmp_path, chain.url) as node:
            assert isinstance(await node.queue.submit(BEAT), Confirmed)

            assert await sent_count(chain) == 1
            assert [each.nonce for each in await chain.admin.transactions(AGENT)] == [0, 1]
            assert not await node.ledger.unfinished_transactions(CHAIN_ID, AGENT)


async def test_endpoint_that_goes_away_in_mid_flight_is_replaced_by_the_next(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        Forwarder(chain.url) as forwarder,
        world(tmp_path, [forwarder.url, chain.url], policy=PATIENT) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        await pool_of(chain)
        assert node.rpc.status().in_use == forwarder.url
        await forwarder.go_away()
        await chain.admin.mine()

        assert isinstance(await order, Confirmed)
        assert node.rpc.status().in_use == chain.url
        assert len(await chain.admin.transactions(AGENT)) == 1


async def test_node_that_is_down_in_mid_flight_is_waited_for(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        await pool_of(chain)
        await chain.admin.fault(FaultMode.REFUSE)
        problem = (await eventually(node.queue.status, lambda status: status.problem is not None)).problem
        assert problem is not None
        assert problem.code == "rpc-none-usable"
        await chain.admin.clear_faults()
        await chain.admin.mine()

        assert isinstance(await order, Confirmed)
