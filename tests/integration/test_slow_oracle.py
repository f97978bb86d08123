"""An Oracle that is slow to begin with a report and slow to book it books each once, and loses none."""

import asyncio
from pathlib import Path

import pytest

from plumised.oracle import Dialect
from tests.devnet.oracle import Fault
from tests.integration.histories.node import POLICY, Node
from tests.integration.histories.oracle import AGENT, sealed
from tests.integration.histories.virtual_time import VirtualTimeLoop

BOOKED_WITHIN_S = 2 * POLICY.interval_s
OUTLASTS_ALL_S = 200.0


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("begins_after_s", [0.0, 14.0, 29.0, 31.0, 44.0, 54.0, 59.0])
@pytest.mark.parametrize("books_after_s", [0.0, 12.0, 29.0])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_report_that_takes_its_time_is_booked_once(
    tmp_path: Path, dialect: Dialect, begins_after_s: float, books_after_s: float, *, restarts: bool
) -> None:
    loop = VirtualTimeLoop()

    async def story() -> None:
        node = Node(loop, tmp_path, dialect, seed=7)
        await node.start()
        node.serve(0, [10], ends=True)
        await asyncio.sleep(BOOKED_WITHIN_S)
        assert node.oracle.store.agent(AGENT.lower()).booked_tokens == node.tokens
        for moment, seconds in (("before", begins_after_s), ("booking", books_after_s)):
            if seconds:
                node.oracle.faults.add(
                    Fault.model_validate(
                        {"kind": "delay", "when": moment, "on": "report", "seconds": seconds, "count": 1}
                    )
                )
        node.serve(0, [20], ends=True)
        await asyncio.sleep(25)
        if restarts:
            node.kill()
            await node.revive()
        for _ in range(int(OUTLASTS_ALL_S)):
            node.serve(1, [1], ends=True)
            await asyncio.sleep(1)
        await node.settled()
        held = node.oracle.store.agent(AGENT.lower())
        assert (held.booked_tokens, held.booked_requests) == (node.tokens, node.requests)
        accepted = [report.timestamp for report in reversed(node.oracle.store.reports(AGENT.lower()))]
        assert accepted == sorted(set(accepted))
        assert await node.stop()
        node.oracle.kill()

    with sealed():
        loop.run_until_complete(story())
    loop.close()
