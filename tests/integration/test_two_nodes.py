"""Two nodes serve a model between them while an engine, a daemon and the Oracle are killed: all of it is credited.

`make crediting` does the same with 200 sessions and ten kills of each.
"""

import pytest

from tests.devnet.crediting import Plan, credited

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.xdist_group("two-nodes")]


async def test_what_two_nodes_serve_under_fire_is_booked_and_proven_once() -> None:
    plan = Plan(sessions=16, clients=2, kills=1, new_tokens=12, seed=1)
    outcome = await credited(plan, print)
    assert outcome.shortcomings() == []
