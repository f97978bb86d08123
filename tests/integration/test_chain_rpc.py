from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from plumised.chain.fees import DynamicFee
from plumised.chain.reader import CallFailed, ChainReader, NotTaken
from plumised.chain.rpc import Rpc
from plumised.chain.rpc_errors import NoUsableRpcError, RpcMethodMissingError, WrongChainError
from plumised.chain.send_refusals import SendRefusal
from plumised.chain.timing import Timing
from plumised.chain.wallet import TransactionFields
from tests.devnet.chain import CHAIN_ID, DevChain, FaultMode, MiningMode
from tests.integration.chain_world import AGENT, BEAT, PLM, STEADY, WALLET, eventually, send_by_hand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import JsonValue


@asynccontextmanager
async def reader(*urls: str, timeout_s: float = 5.0, timing: Timing = STEADY) -> AsyncIterator[tuple[ChainReader, Rpc]]:
    async with Rpc(urls, CHAIN_ID, timeout_s=timeout_s, timing=timing) as rpc:
        yield ChainReader(rpc), rpc


async def test_first_endpoint_is_used_while_it_works() -> None:
    async with DevChain() as first, DevChain() as second, reader(first.url, second.url) as (chain, rpc):
        await chain.latest_block()

        assert rpc.status().in_use == first.url
        assert not await second.admin.calls()


async def test_endpoint_of_another_chain_is_never_asked_anything_but_its_chain() -> None:
    async with DevChain() as wrong, DevChain(funds={AGENT: 7}) as right, reader(wrong.url, right.url) as (chain, rpc):
        await wrong.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=1)

        assert await chain.balance(AGENT) == 7
        problem = rpc.status().endpoints[0].problem
        assert isinstance(problem, WrongChainError)
        assert "serves chain 1, not 41956" in problem.message
        assert {call.method for call in await wrong.admin.calls()} == {"eth_chainId"}


async def test_no_endpoint_of_the_right_chain_is_said_with_the_remedy() -> None:
    async with DevChain() as wrong, reader(wrong.url) as (chain, _):
        await wrong.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=1)

        with pytest.raises(NoUsableRpcError, match="serves chain 1, not 41956") as failure:
            await chain.balance(AGENT)
        assert "chain_id" in failure.value.remedy


@pytest.mark.parametrize(
    "fault", [FaultMode.HANG, FaultMode.STATUS_500, FaultMode.STATUS_429, FaultMode.GARBAGE, FaultMode.DROP]
)
async def test_endpoint_that_does_not_answer_is_passed_over(fault: FaultMode) -> None:
    async with (
        DevChain() as broken,
        DevChain(funds={AGENT: 7}) as sound,
        reader(broken.url, sound.url, timeout_s=1.0) as (chain, rpc),
    ):
        await broken.admin.fault(fault)

        assert await chain.balance(AGENT) == 7
        assert rpc.status().endpoints[0].problem is not None


@pytest.mark.parametrize("lie", [None, 7, "7", "0x", "0xzz", {}, [], "0x" + "f" * 65, True])
async def test_answer_that_cannot_be_true_is_not_taken(lie: JsonValue) -> None:
    async with (
        DevChain() as liar,
        DevChain(funds={AGENT: 7}) as sound,
        reader(liar.url, sound.url) as (chain, _),
    ):
        await liar.admin.fault(FaultMode.ANSWER, "eth_getBalance", result=lie)
        assert await chain.balance(AGENT) == 7


async def test_rate_limit_sends_the_call_to_the_next_endpoint() -> None:
    async with DevChain() as busy, DevChain(funds={AGENT: 7}) as idle, reader(busy.url, idle.url) as (chain, _):
        await busy.admin.fault(FaultMode.ERROR, "eth_getBalance", code=-32005, message="limit exceeded")
        assert await chain.balance(AGENT) == 7


async def test_failed_endpoint_rests_before_it_is_asked_again() -> None:
    monotonic = 100.0
    timing = Timing(monotonic=lambda: monotonic, chance=lambda: 0.0)
    async with DevChain() as broken, DevChain() as sound, reader(broken.url, sound.url, timing=timing) as (chain, rpc):
        await broken.admin.fault(FaultMode.STATUS_500, count=1)
        await chain.latest_block()
        asked = len(await broken.admin.calls())
        await chain.latest_block()
        assert len(await broken.admin.calls()) == asked
        assert rpc.status().in_use == sound.url

        monotonic += rpc.status().endpoints[0].retry_in_s
        await chain.latest_block()
        assert rpc.status().in_use == broken.url


async def test_a_short_rest_of_the_only_endpoint_is_waited_out() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(seconds)

    timing = Timing(sleep=sleep, chance=lambda: 0.0)
    async with DevChain(funds={AGENT: 7}) as node, reader(node.url, timing=timing) as (chain, _):
        await node.admin.fault(FaultMode.DROP, count=1)
        with pytest.raises(NoUsableRpcError):
            await chain.balance(AGENT)

        assert await chain.balance(AGENT) == 7
        assert 0.0 < sum(slept) <= 1.0


async def test_a_rest_that_is_longer_than_a_call_may_take_is_not_waited_out() -> None:
    monotonic = 100.0
    timing = Timing(monotonic=lambda: monotonic, chance=lambda: 0.0)
    async with DevChain() as node, reader(node.url, timeout_s=1.0, timing=timing) as (chain, rpc):
        await node.admin.fault(FaultMode.STATUS_500)
        while rpc.status().endpoints[0].retry_in_s <= 1.0:
            monotonic += rpc.status().endpoints[0].retry_in_s
            with pytest.raises(NoUsableRpcError):
                await chain.latest_block()
        asked = len(await node.admin.calls())

        with pytest.raises(NoUsableRpcError, match="next try in"):
            await chain.latest_block()
        assert len(await node.admin.calls()) == asked


async def test_chain_of_a_recovered_endpoint_is_checked_again() -> None:
    async with DevChain() as node, reader(node.url) as (chain, rpc):
        await chain.latest_block()
        await node.admin.fault(FaultMode.DROP, count=1)
        with pytest.raises(NoUsableRpcError):
            await chain.latest_block()
        await node.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=1)

        await eventually(lambda: rpc.status().endpoints[0].retry_in_s, lambda left: left == 0)
        with pytest.raises(NoUsableRpcError, match="serves chain 1"):
            await chain.latest_block()


async def test_endpoint_that_is_behind_comes_last() -> None:
    async with (
        DevChain(clock=lambda: time.time() - 3600) as behind,
        DevChain(funds={AGENT: 7}) as current,
        reader(behind.url, current.url) as (chain, rpc),
    ):
        assert await chain.balance(AGENT) == 7
        behind_s = rpc.status().endpoints[0].behind_s
        assert behind_s is not None
        assert behind_s >= 3600


async def test_endpoint_that_is_behind_is_better_than_none() -> None:
    async with DevChain(funds={AGENT: 7}, clock=lambda: time.time() - 3600) as behind, reader(behind.url) as (chain, _):
        assert await chain.balance(AGENT) == 7


async def test_plain_evm_node_cannot_say_whether_an_address_is_an_agent() -> None:
    async with DevChain() as node, reader(node.url) as (chain, _):
        assert await chain.is_agent_account(AGENT) is False
        await node.admin.fault(FaultMode.NO_AGENT_METHODS)
        assert await chain.is_agent_account(AGENT) is None


async def test_missing_method_is_no_reason_to_leave_an_endpoint() -> None:
    async with DevChain() as node, reader(node.url) as (chain, rpc):
        await node.admin.fault(FaultMode.NO_AGENT_METHODS)
        await chain.is_agent_account(AGENT)

        assert rpc.status().endpoints[0].usable
        with pytest.raises(RpcMethodMissingError):
            await rpc.request("eth_noSuchMethod", (), str)


async def test_simulated_call_that_fails_says_why() -> None:
    async with DevChain() as node, reader(node.url) as (chain, _):
        answer = await chain.call(BEAT.to, BEAT.data, sender=AGENT, gas=BEAT.gas)
        assert isinstance(answer, CallFailed)
        assert answer.text


async def test_refusals_of_a_transaction_are_told_apart() -> None:
    async with DevChain(mining=MiningMode.MANUAL, base_fee=1) as node, reader(node.url) as (chain, _):
        assert await refusal_of(chain, 0) is SendRefusal.INSUFFICIENT_FUNDS
        await node.admin.set_balance(AGENT, PLM)
        await send_by_hand(chain, 0)
        assert await refusal_of(chain, 0, gas_price=10**9 + 1) is SendRefusal.REPLACEMENT_UNDERPRICED
        await node.admin.mine()
        assert await refusal_of(chain, 0) is SendRefusal.NONCE_TOO_LOW


async def refusal_of(chain: ChainReader, nonce: int, *, gas_price: int = 10**9) -> SendRefusal:
    fields = TransactionFields(CHAIN_ID, nonce, BEAT.to, b"", 300_000, DynamicFee(gas_price, gas_price))
    answer = await chain.send(WALLET.sign_transaction(fields).raw)
    assert isinstance(answer, NotTaken)
    return answer.why
