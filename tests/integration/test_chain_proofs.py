"""Proofs at precompile 0x20: from the ledger, each once, at a bounded pace and cost."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from eth_utils.crypto import keccak

from plumised.chain.addresses import VERIFY_INFERENCE_GAS
from plumised.chain.problem_board import ProblemBoard
from plumised.chain.proving import Prover, ProvingPolicy
from plumised.chain.timing import Timing
from plumised.ledger import LedgerThread, Proof
from tests.devnet.chain import CHAIN_ID, DevChain, FaultMode
from tests.integration.chain_node import agent, confirmed, problem, registered
from tests.integration.chain_world import AGENT, PLM, REGISTER, eventually, running, world

if TYPE_CHECKING:
    from pathlib import Path

OFTEN = ProvingPolicy(per_hour=36_000, most_cost_wei=PLM, look_s=0.05)
BASE_FEE = 5_000_001


def proof(number: int) -> Proof:
    model, given, made = ("0x" + bytes(keccak(text=f"{what} {number}")).hex() for what in ("model", "input", "output"))
    return Proof(f"request-{number}", model, given, made, token_count=number + 1)


async def put(directory: Path, *proofs: Proof) -> None:
    async with await LedgerThread.open(directory / "ledger.db", time.time) as ledger:
        await ledger.add_proofs(proofs)


async def test_stored_proofs_are_verified_by_the_agent_itself_each_once(tmp_path: Path) -> None:
    await put(tmp_path, proof(1), proof(2), proof(3))
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain,
        agent(tmp_path, chain.url, proving=OFTEN) as node,
    ):
        seen = await eventually(node.snapshot, lambda seen: seen.proofs.verified >= 3)
        await confirmed(node, seen.pulse.confirmed + 2)

        found = await chain.admin.inferences()
        assert [(each.model_hash, each.input_hash, each.output_hash, each.tokens) for each in found] == [
            (each.model_hash, each.input_hash, each.output_hash, each.token_count) for each in map(proof, (1, 2, 3))
        ]
        assert {(each.agent, each.transaction.sender) for each in found} == {(AGENT, AGENT)}
        assert seen.proofs.last_hash == found[-1].transaction.hash
        assert seen.proofs.cost_wei == sum(each.transaction.fee_wei for each in found)


async def test_no_proof_is_sent_unless_that_is_wanted(tmp_path: Path) -> None:
    await put(tmp_path, proof(1))
    async with DevChain(funds={AGENT: PLM}) as chain, agent(tmp_path, chain.url) as node:
        await confirmed(node, 2)
        assert not await chain.admin.inferences()


async def test_restarted_node_sends_no_proof_again(tmp_path: Path) -> None:
    await put(tmp_path, proof(1))
    async with DevChain(funds={AGENT: PLM}) as chain:
        async with agent(tmp_path, chain.url, proving=OFTEN) as node:
            await eventually(node.snapshot, lambda seen: seen.proofs.verified == 1)
        await put(tmp_path, proof(2))
        async with agent(tmp_path, chain.url, proving=OFTEN) as node:
            await eventually(node.snapshot, lambda seen: seen.proofs.verified == 1)

        assert [each.tokens for each in await chain.admin.inferences()] == [2, 3]


async def test_proof_in_flight_at_a_crash_is_taken_up_and_not_sent_anew(tmp_path: Path) -> None:
    await put(tmp_path, proof(1))
    async with DevChain(funds={AGENT: PLM}) as chain:
        async with agent(tmp_path, chain.url, proving=OFTEN) as node:
            await registered(node)
            await chain.admin.fault(FaultMode.LOSE_REPLY, "eth_sendRawTransaction")
            await chain.admin.wait_for(chain.admin.inferences)
        await chain.admin.clear_faults()
        async with agent(tmp_path, chain.url, proving=OFTEN) as node:
            await confirmed(node, 2)

        assert len(await chain.admin.inferences()) == 1


async def test_proof_above_its_cost_is_not_sent_until_gas_is_cheap(tmp_path: Path) -> None:
    policy = replace(OFTEN, most_cost_wei=VERIFY_INFERENCE_GAS * BASE_FEE - 1)
    await put(tmp_path, proof(1))
    async with (
        DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE) as chain,
        agent(tmp_path, chain.url, proving=policy) as node,
    ):
        seen = await problem(node, "fees-above-cap")
        assert any("to verify" in each.message for each in seen.problems)
        assert not await chain.admin.inferences()

        await chain.admin.set_fees(base_fee=BASE_FEE // 2)
        await eventually(node.snapshot, lambda seen: seen.proofs.verified == 1)
        (found,) = await chain.admin.inferences()
        assert found.transaction.fee_wei <= policy.most_cost_wei
        await eventually(node.snapshot, lambda seen: "fees-above-cap" not in {each.code for each in seen.problems})


async def test_where_more_wait_than_may_be_sent_the_newest_are_one_each_quarter_of_an_hour(tmp_path: Path) -> None:
    await put(tmp_path, *map(proof, range(10)))
    now = [1_770_000_000.0]
    prover_policy = ProvingPolicy(per_hour=4, most_cost_wei=PLM, look_s=0.01)
    timing = Timing(clock=lambda: now[0], chance=lambda: 0.0)
    async with DevChain(funds={AGENT: PLM}) as chain, world(tmp_path, chain.url) as node:
        await node.queue.submit(REGISTER)
        prover = Prover(
            queue=node.queue,
            source=node.ledger,
            agent=AGENT,
            chain_id=CHAIN_ID,
            registered=lambda: True,
            policy=prover_policy,
            board=ProblemBoard(),
            timing=timing,
        )
        async with running(prover.run()):
            for sent in (1, 2, 3, 4):
                await eventually(lambda: prover.tally.verified, sent.__eq__)
                now[0] += prover_policy.spacing_s
        assert [each.tokens for each in await chain.admin.inferences()] == [7, 8, 9, 10]


async def test_unregistered_agent_sends_no_proof(tmp_path: Path) -> None:
    await put(tmp_path, proof(1))
    async with DevChain(base_fee=BASE_FEE) as chain, agent(tmp_path, chain.url, proving=OFTEN) as node:
        await problem(node, "insufficient-funds")
        assert not await chain.admin.calls("eth_sendRawTransaction")
