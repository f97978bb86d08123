"""Two nodes with half of the model each serve one pipeline; a third one joins, one leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e import figures
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import BLOCKS
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clients import Client
    from tests.e2e.cluster import Images

pytestmark = pytest.mark.timeout(600)

SPANS = {"a": (0, BLOCKS // 2), "b": (BLOCKS // 2, BLOCKS)}
NEW_TOKENS = 12
LONG = 120
PROMPT = tuple(range(5, 25))
SESSIONS = 16
PROMPTS = tuple(tuple(range(5 + n, 13 + 2 * n)) for n in range(SESSIONS))
GENERATING_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(cluster_images: Images, model: Path, logs: Path) -> Iterator[Cluster]:
    with Cluster.running(cluster_images, model, logs) as running:
        for name, (first, last) in SPANS.items():
            running.add_node(name, f"{first}:{last}").start()
        for node in running.nodes.values():
            node.wait_serving()
        yield running


@pytest.fixture(scope="module")
def single(cluster: Cluster) -> Iterator[Client]:
    with cluster.single_process() as running:
        yield running


def test_each_node_serves_its_half(cluster: Cluster) -> None:
    for name, span in SPANS.items():
        engine = cluster.node(name).status().engine
        assert (engine.span_start, engine.span_end, engine.total_blocks) == (*span, BLOCKS)


def test_both_together_give_the_tokens_of_one_process(cluster: Cluster, client: Client, single: Client) -> None:
    before = {name: cluster.node(name).status().usage.total.tokens for name in SPANS}

    through_the_swarm = client.generate(PROMPT, NEW_TOKENS)

    assert through_the_swarm.ids == single.generate(PROMPT, NEW_TOKENS).ids
    for name, tokens in before.items():
        # The last token is not fed to the model again.
        cluster.node(name).wait_counted(tokens + len(PROMPT) + len(through_the_swarm.ids) - 1)


def test_sixteen_sessions_at_once_give_each_its_own_tokens(client: Client, single: Client) -> None:
    every = client.generate_together(PROMPTS, NEW_TOKENS)

    assert every.ids == single.generate_together(PROMPTS, NEW_TOKENS).ids
    figures.keep("pipeline", {"sixteen_sessions_s": every.seconds, "tokens": SESSIONS * NEW_TOKENS})


def test_each_node_reports_what_it_served_itself_under_its_own_wallet(cluster: Cluster) -> None:
    nodes = [cluster.node(name) for name in SPANS]
    assert len({node.agent for node in nodes}) == len(nodes)
    for node in nodes:
        cluster.wait_settled(node)
        held = cluster.oracle.agent(node.agent)
        assert held.booked_requests == node.status().usage.total.requests
        assert cluster.registered(node) is not None


def test_a_session_outlives_a_node_that_leaves_when_another_has_joined(
    cluster: Cluster, client: Client, single: Client
) -> None:
    leaving = cluster.node("b")
    first, last = SPANS["b"]
    joined = cluster.add_node("c", f"{first}:{last}")
    joined.start()
    joined.wait_serving()
    expected = single.generate(PROMPT, LONG).ids

    tokens: list[int] = []
    session = client.start(PROMPT, LONG, tokens)
    wait_until("the session is under way", lambda: len(tokens) >= 3, GENERATING_WITHIN_S)
    leaving.stop()

    assert session.result().ids == expected
    again = client.generate(PROMPT, LONG)
    assert again.ids == expected
    for node in (cluster.node("a"), joined):
        cluster.wait_settled(node)
