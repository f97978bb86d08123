"""The transaction queue on a chain whose endpoints are slow, behind, of another chain, or lie, and whose fees leap."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from plumised.chain.orders import Confirmed, Failed
from plumised.ledger.records import TransactionState
from tests.devnet.chain import BelowBaseFee, DevChain, FaultMode, MiningMode
from tests.integration.chain_world import (
    AGENT,
    BEAT,
    CAP,
    FAST,
    PATIENT,
    PLM,
    REGISTER,
    eventually,
    running,
    world,
)

if TYPE_CHECKING:
    from pathlib import Path

SEND = "eth_sendRawTransaction"


async def test_tenfold_base_fee_above_the_cap_is_waited_out_and_nothing_paid_above_it(tmp_path: Path) -> None:
    base_fee = CAP // 6
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=base_fee) as chain,
        world(tmp_path, chain.url) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        (first,) = await chain.admin.wait_for(chain.admin.pool)
        await chain.admin.set_fees(base_fee=10 * base_fee, below_base_fee=BelowBaseFee.KEEP)
        await chain.admin.mine()

        outcome = await order
        assert isinstance(outcome, Failed)
        assert outcome.problem.code == "transaction-stuck"
        assert [each.hash for each in await chain.admin.pool()] == [first.hash]

        await chain.admin.set_fees(base_fee=4 * base_fee)
        await chain.admin.wait_for(chain.admin.pool, lambda pool: pool[0].fee_cap >= 4 * base_fee)
        await chain.admin.mine()
        await eventually(node.queue.status, lambda status: status.in_flight is None)

        (stored,) = await node.ledger.recent_transactions(1)
        assert stored.state is TransactionState.MINED
        assert max(attempt.max_fee_per_gas for attempt in stored.attempts) <= CAP
        assert len(await chain.admin.transactions(AGENT)) == 1


async def test_cap_of_one_order_binds_its_replacements_after_a_restart(tmp_path: Path) -> None:
    own = 12_000_000
    capped = replace(REGISTER, fee_cap=own)
    async with DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=5_000_001) as chain:
        async with world(tmp_path, chain.url, policy=PATIENT) as node, running(node.queue.submit(capped)):
            await chain.admin.wait_for(chain.admin.pool)
        async with world(tmp_path, chain.url) as node:
            await eventually(node.queue.status, lambda status: bool(status.in_flight and status.in_flight.given_up))
            (stored,) = await node.ledger.recent_transactions(1)

    assert len(stored.attempts) > 1
    assert max(attempt.max_fee_per_gas for attempt in stored.attempts) <= own


@pytest.mark.parametrize("words", ["already known", "transaction already imported", "ALREADY_EXISTS: already known"])
async def test_node_that_says_it_knows_a_transaction_is_believed_until_it_shows_otherwise(
    tmp_path: Path, words: str
) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url, policy=PATIENT) as node:
        await chain.admin.fault(FaultMode.ERROR, SEND, count=1, message=words)

        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        (stored,) = await node.ledger.recent_transactions(1)
        assert len(stored.attempts) == 1
        assert {str(call.params) for call in await chain.admin.calls(SEND)} == {
            str(["0x" + stored.attempts[0].raw.hex()])
        }


async def test_nonce_far_ahead_that_an_endpoint_invented_leaves_no_gap(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        await chain.admin.fault(FaultMode.ANSWER, "eth_getTransactionCount", result="0x64", count=2)

        assert isinstance(await node.queue.submit(REGISTER), Failed)
        await eventually(node.queue.status, lambda status: status.in_flight is None)

        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        assert [each.nonce for each in await chain.admin.transactions(AGENT)] == [0]


async def test_receipt_of_another_transaction_is_no_receipt(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as liar,
        DevChain(funds={AGENT: PLM}) as chain,
        world(tmp_path, [liar.url, chain.url], policy=PATIENT) as node,
    ):
        await liar.admin.fault(
            FaultMode.ANSWER,
            "eth_getTransactionReceipt",
            result={
                "transactionHash": "0x" + "11" * 32,
                "blockNumber": "0x1",
                "status": "0x1",
                "gasUsed": "0x1",
                "effectiveGasPrice": "0x0",
            },
        )
        async with running(node.queue.submit(REGISTER)):
            await liar.admin.wait_for(lambda: liar.admin.calls("eth_getTransactionReceipt"))
            statuses = await eventually(node.rpc.status, lambda status: status.endpoints[0].problem is not None)
            told = statuses.endpoints[0].problem
            assert told is not None
            assert told.code == "rpc-bad-answer"
            assert await node.ledger.unfinished_transactions(node.chain.chain_id, AGENT)


async def test_endpoint_that_turns_to_another_chain_gets_no_transaction(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        await chain.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=1)
        await chain.admin.forget_calls()

        outcome = await node.queue.submit(BEAT)

        assert isinstance(outcome, Failed)
        assert "serves chain 1, not 41956" in outcome.problem.message
        assert {call.method for call in await chain.admin.calls()} == {"eth_chainId"}


async def test_transaction_on_its_way_outlives_an_endpoint_that_turns_to_another_chain(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain,
        world(tmp_path, chain.url, policy=PATIENT, verified_for_s=0.1) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        (waiting,) = await chain.admin.wait_for(chain.admin.pool)
        await chain.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=1)
        await eventually(node.queue.status, lambda status: status.problem is not None)
        await chain.admin.clear_faults()
        await chain.admin.mine()

        outcome = await order
        assert isinstance(outcome, Confirmed)
        assert outcome.hash == waiting.hash


async def test_slow_endpoint_is_passed_over_for_the_next(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        DevChain(funds={AGENT: PLM}) as slow,
        world(tmp_path, [slow.url, chain.url], policy=PATIENT, timeout_s=0.3) as node,
    ):
        await slow.admin.fault(FaultMode.DELAY, delay_s=30.0)

        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        assert len(await chain.admin.transactions(AGENT)) == 1
        assert not await slow.admin.transactions(AGENT)


async def test_answer_that_is_late_but_in_time_changes_nothing(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url, policy=PATIENT) as node:
        await chain.admin.fault(FaultMode.DELAY, delay_s=0.05)

        outcomes = await asyncio.gather(node.queue.submit(REGISTER), node.queue.submit(BEAT))

        assert [type(outcome) for outcome in outcomes] == [Confirmed, Confirmed]
        assert [each.nonce for each in await chain.admin.transactions(AGENT)] == [0, 1]


async def test_endpoint_stuck_at_an_old_block_sends_nothing_twice(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url, policy=PATIENT) as node:
        assert isinstance(await node.queue.submit(REGISTER), Confirmed)
        await chain.admin.fault(FaultMode.STALE, blocks_behind=0)
        async with running(node.queue.submit(BEAT)) as order:
            await chain.admin.wait_for(lambda: chain.admin.transactions(AGENT), lambda mined: len(mined) == 2)
            await chain.admin.clear_faults()

            assert isinstance(await order, Confirmed)
        assert [each.nonce for each in await chain.admin.transactions(AGENT)] == [0, 1]


async def test_orders_wait_until_the_ledger_has_told_what_was_left_behind(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL) as chain:
        async with world(tmp_path, chain.url, policy=PATIENT) as node, running(node.queue.submit(REGISTER)):
            await chain.admin.wait_for(chain.admin.pool)
        async with world(tmp_path, chain.url, policy=FAST) as node:
            outcome = await asyncio.gather(node.queue.submit(REGISTER), return_exceptions=True)

            assert "not settled yet" in str(outcome[0])
            assert len({each.nonce for each in await chain.admin.pool()}) == 1
