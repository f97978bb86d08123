"""The chain's side goes by other terms without a break, also with what is on its way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plumised.chain.addresses import AGENT_REGISTRY
from plumised.chain.claims import ClaimPolicy
from plumised.chain.orders import Confirmed
from plumised.chain.proving import ProvingPolicy
from plumised.chain.registry import Enrolled
from plumised.chain.terms import ChainTerms
from plumised.ledger import Proof
from tests.devnet.chain import BelowBaseFee, DevChain, MiningMode
from tests.integration.chain_node import agent, confirmed, problem, registered
from tests.integration.chain_world import AGENT, CAP, FAST, PLM, REGISTER, eventually, running, world

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = "http://127.0.0.1:9"
BASE_FEE = 5_000_001
OFTEN = ProvingPolicy(per_hour=36_000, most_cost_wei=PLM, look_s=0.05)


def terms(url: str) -> ChainTerms:
    """As the nodes of these tests begin with."""
    return ChainTerms(
        rpc_urls=(url,), model="bigscience/bloom-560m", fee_cap=CAP, rpc_timeout_s=2.0, heartbeat_s=1.0, flight=FAST
    )


async def test_another_endpoint_is_used_from_the_next_call_on(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, NOBODY) as node:
        await problem(node, "rpc-none-usable")
        node.adopt(terms(chain.url))

        seen = await registered(node)
        assert [endpoint.name for endpoint in seen.rpc.endpoints] == [chain.url]


async def test_a_higher_cap_pays_what_the_last_one_did_not(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain, agent(tmp_path, chain.url, fee_cap=1) as node:
        await problem(node, "fees-above-cap")
        node.adopt(terms(chain.url))
        await confirmed(node)


async def test_a_higher_cap_raises_the_transaction_that_is_on_its_way(tmp_path: Path) -> None:
    cap = 12_000_000
    async with (
        DevChain(funds={AGENT: PLM}, mining=MiningMode.MANUAL, base_fee=BASE_FEE) as chain,
        world(tmp_path, chain.url, fee_cap=cap) as node,
        running(node.queue.submit(REGISTER)) as order,
    ):
        await chain.admin.wait_for(chain.admin.pool, lambda pool: len(pool) == 1)
        await chain.admin.set_fees(base_fee=2 * cap, below_base_fee=BelowBaseFee.KEEP)
        node.queue.adopt(CAP, FAST)
        await chain.admin.wait_for(chain.admin.pool, lambda pool: pool[0].fee_cap >= 2 * cap)
        await chain.admin.mine()

        assert isinstance(await order, Confirmed)


async def test_a_shorter_interval_counts_for_the_next_heartbeat(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await confirmed(node)
        node.adopt(replace(terms(chain.url), heartbeat_s=250.0))
        node.adopt(terms(chain.url))
        await confirmed(node, 3)


async def test_a_limit_of_the_balance_counts_with_the_next_look(tmp_path: Path) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain, agent(tmp_path, chain.url) as node:
        await confirmed(node)
        assert not node.snapshot().balance_low
        node.adopt(replace(terms(chain.url), low_balance_wei=2 * PLM))
        await problem(node, "balance-low")


async def test_claiming_is_switched_on(tmp_path: Path) -> None:
    manual = ClaimPolicy(look_s=0.2)
    async with (
        DevChain(funds={AGENT: PLM}) as chain,
        agent(tmp_path, chain.url, registry=AGENT_REGISTRY, claiming=manual) as node,
    ):
        await registered(node)
        assert isinstance(await node.enrol(dry_run=False), Enrolled)
        await chain.admin.set_reward(AGENT, 5 * PLM)
        node.adopt(replace(terms(chain.url), claiming=replace(manual, automatic=True)))
        seen = await eventually(node.snapshot, lambda seen: seen.claims.count == 1)
        assert seen.claims.wei == 5 * PLM


async def test_proofs_are_switched_on_and_off(tmp_path: Path) -> None:
    digest = "0x" + "12" * 32
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as other:
        await other.ledger.add_proofs([Proof("request-1", digest, digest, digest, token_count=3)])
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await confirmed(node)
        node.adopt(replace(terms(chain.url), proving=OFTEN))
        seen = await eventually(node.snapshot, lambda seen: seen.proofs.verified == 1, patience_s=60.0)
        node.adopt(terms(chain.url))
        await confirmed(node, seen.pulse.confirmed + 2)
        assert len(await chain.admin.inferences()) == 1
