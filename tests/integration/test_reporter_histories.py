"""Random histories of crashes, faults and clock changes: what is booked in the end is what was served."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumised.ledger import Proof
from plumised.oracle import Dialect, Policy
from tests.devnet.oracle import Fault
from tests.integration.reporting import Scene, scene

HASH = "0x" + "33" * 32

faults = st.builds(
    Fault,
    kind=st.sampled_from(["drop", "status", "garbage", "truncate", "error-body", "rpc-down", "database-down"]),
    when=st.sampled_from(["before", "after"]),
    on=st.sampled_from(["report", "history", "any"]),
    count=st.integers(1, 3),
)
events = st.one_of(
    st.tuples(st.just("serve"), st.integers(0, 1500)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just("fault"), faults),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("kill in mid-turn"), st.integers(0, 20)),
    st.tuples(st.just("pass"), st.integers(0, 200)),
    st.tuples(st.just("set the clock"), st.sampled_from([-4000, -100, -30, -1, 0, 1, 30, 100, 4000])),
)


async def happens(here: Scene, name: str, value: int | Fault) -> None:
    node = here.node
    match name, value:
        case "serve", int(tokens):
            await node.serve(tokens)
            proof = Proof(f"r{node.requests}", HASH, HASH, HASH, token_count=node.requests)
            await node.ledger.add_proofs([proof])
        case "turn", int(number):
            for _ in range(number):
                await node.turn()
        case "fault", Fault() as fault:
            await here.oracle.control.switch_on(fault)
        case "restart", _:
            await node.restart()
        case "kill in mid-turn", int(milliseconds):
            await node.abandoned_turn(milliseconds / 1000)
            await node.restart()
        case "pass", int(seconds):
            here.clocks.pass_s(seconds)
        case "set the clock", int(seconds):
            here.clocks.ahead = float(seconds)
        case _:
            raise AssertionError((name, value))


async def history(directory: Path, dialect: Dialect, story: list[tuple[str, int | Fault]]) -> None:
    policy = Policy(greatest_tokens=2000, proofs_per_report=3)
    async with scene(directory, dialect, policy) as here:
        for name, value in story:
            await happens(here, name, value)
        await here.oracle.control.clear_faults()
        here.clocks.ahead = 0.0
        await here.node.credited(turns=80)
        for _ in range(len(story)):
            await here.node.turn()
        await here.check_books()
        if dialect.carries_proofs:
            inserted = sorted(proof.token_count for proof in await here.oracle.control.proofs())
            assert inserted == list(range(1, here.node.requests + 1))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(Dialect), st.lists(events, max_size=14))
def test_whatever_happens_every_token_is_booked_once_and_every_proof_inserted_once(
    dialect: Dialect, story: list[tuple[str, int | Fault]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(history(Path(directory), dialect, story))
