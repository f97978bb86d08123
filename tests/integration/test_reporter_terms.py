"""The reporter goes by other terms without a break."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.oracle import Dialect, OracleClient, Policy
from tests.devnet.oracle import DevOracle, OracleConfig
from tests.integration.chain_world import eventually, running
from tests.integration.reporting import AGENT, ANSWER_TIMEOUT_S, scene

if TYPE_CHECKING:
    from pathlib import Path


async def test_another_oracle_is_reported_to_from_the_next_turn_on(tmp_path: Path) -> None:
    async with (
        scene(tmp_path) as here,
        DevOracle(OracleConfig(listed=frozenset({AGENT.lower()}), clock=lambda: here.clocks.oracle)) as other,
    ):
        await here.node.serve(30)
        await here.node.credited()

        client = OracleClient(other.url, timeout_s=ANSWER_TIMEOUT_S)
        here.node.reporter.adopt(client=client, dialect=Dialect.REPORT_V1, policy=Policy())
        await here.node.serve(12)
        await here.node.credited()

        assert (await here.held()).booked_tokens == 30
        # What one Oracle has booked is not booked by another one again.
        assert (await other.control.agent(AGENT)).booked_tokens == 12
        seen = here.node.reporter.snapshot()
        assert (seen.url, seen.dialect, seen.problem) == (other.url, Dialect.REPORT_V1, None)


async def test_another_interval_counts_without_waiting_for_the_end_of_the_last_one(tmp_path: Path) -> None:
    async with scene(tmp_path, policy=Policy(interval_s=3600.0)) as here, running(here.node.reporter.run()):
        await eventually(here.node.reporter.snapshot, lambda seen: seen.accepted is not None)
        await here.node.serve(9)
        policy = Policy(interval_s=0.05)
        client = OracleClient(here.oracle.url, timeout_s=ANSWER_TIMEOUT_S)
        here.node.reporter.adopt(client=client, dialect=Dialect.METRICS_V1, policy=policy)
        await eventually(here.node.reporter.snapshot, lambda seen: seen.reported.tokens == 9)
