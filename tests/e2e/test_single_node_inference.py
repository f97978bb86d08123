"""One node serves the whole model: what it serves, what it counts, what it reports, and how it stops."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e import figures
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import BLOCKS
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.devnet.client import Generations
    from tests.e2e.clients import Client
    from tests.e2e.cluster import Images
    from tests.e2e.nodes import ClusterNode

pytestmark = pytest.mark.timeout(600)

NEW_TOKENS = 10
SESSIONS = 24
PROMPT = tuple(range(5, 25))
PROMPTS = tuple(tuple(range(5 + n, 13 + 2 * n)) for n in range(SESSIONS))
FIRST_REPORT_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(cluster_images: Images, model: Path, logs: Path) -> Iterator[Cluster]:
    with Cluster.running(cluster_images, model, logs) as running:
        measured = {"oracle_up_after_s": running.oracle_up_after_s}
        node = running.add_node("a", f"0:{BLOCKS}")
        began = time.monotonic()
        node.start()
        node.wait_serving()
        measured["serving_after_s"] = time.monotonic() - began
        wait_until("the first report", lambda: running.oracle.agent(node.agent).accepted >= 1, FIRST_REPORT_WITHIN_S)
        measured["first_report_after_s"] = time.monotonic() - began
        figures.keep("single-node", measured)
        yield running


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> ClusterNode:
    return cluster.node("a")


@dataclass(frozen=True)
class Sessions:
    """Sessions at the same time, and the node's tokens and requests before them."""

    every: Generations
    tokens_before: int
    requests_before: int

    @property
    def steps(self) -> int:
        """One for each token; the first one has the prompt."""
        return sum(len(ids) for ids in self.every.ids)

    @property
    def tokens(self) -> int:
        """All that went through the model: the last token of a session does not go through it again."""
        return sum(len(prompt) for prompt in PROMPTS) + self.steps - SESSIONS


@pytest.fixture(scope="module")
def sessions(node: ClusterNode, client: Client) -> Sessions:
    before = node.status().usage.total
    return Sessions(client.generate_together(PROMPTS, NEW_TOKENS), before.tokens, before.requests)


def test_the_node_serves_the_whole_model(node: ClusterNode) -> None:
    status = node.status()

    assert (status.engine.span_start, status.engine.span_end, status.engine.total_blocks) == (0, BLOCKS, BLOCKS)
    assert not status.problems


def test_many_sessions_at_once_give_the_tokens_of_one_process(cluster: Cluster, sessions: Sessions) -> None:
    with cluster.single_process() as single:
        assert sessions.every.ids == single.generate_together(PROMPTS, NEW_TOKENS).ids


def test_every_session_is_a_request_and_every_token_is_counted_once(node: ClusterNode, sessions: Sessions) -> None:
    total = node.wait_counted(sessions.tokens_before + sessions.tokens).usage.total

    assert total.requests == sessions.requests_before + SESSIONS
    assert total.steps == sessions.steps
    assert total.service_us > 0


def test_prometheus_reads_the_same_figures(node: ClusterNode, sessions: Sessions) -> None:
    del sessions
    total = node.status().usage.total
    fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9464/metrics', timeout=5).read().decode())"

    text = node.host.run(f'python3 -c "{fetch}"').stdout

    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert float(values['plumise_served_tokens_total{kind="inference"}']) == total.tokens
    assert float(values['plumise_served_requests_total{kind="inference"}']) == total.requests
    assert float(values["plumise_serving"]) == 1


def test_the_oracle_booked_what_was_served_and_has_a_proof_of_each_session(
    cluster: Cluster, node: ClusterNode, sessions: Sessions
) -> None:
    del sessions
    total = node.status().usage.total

    cluster.oracle.wait_booked(node.agent, total.tokens)
    held = wait_until(
        "every session is proven",
        lambda: held if (held := cluster.oracle.agent(node.agent)).proofs == total.requests else None,
        60.0,
    )
    assert held is not None
    assert held.booked_requests == total.requests
    proofs = cluster.oracle.ask(lambda oracle: oracle.proofs(node.agent))
    assert sum(proof.token_count for proof in proofs) == total.tokens


def test_the_last_report_says_what_the_status_says(cluster: Cluster, node: ClusterNode, sessions: Sessions) -> None:
    del sessions
    status = node.status()
    (*_, last) = cluster.oracle.ask(lambda oracle: oracle.reports(node.agent))

    assert (last.tokens, last.requests) == (status.usage.total.tokens, status.usage.total.requests)
    assert last.dialect == "metrics-v1"
    assert last.latency_ms == pytest.approx(
        status.usage.total.service_us / status.usage.total.requests / 1000, rel=0.01
    )
    assert abs(last.timestamp - last.received_at) < 60
    # The Oracle recovers the signer of each report, and books for no other.
    refused = {each.message for each in cluster.oracle.ask(lambda oracle: oracle.refusals(node.agent))}
    assert refused <= {("Agent not registered on-chain",)}


def test_a_stop_leaves_no_process_and_no_token_unreported(
    cluster: Cluster, node: ClusterNode, client: Client, sessions: Sessions
) -> None:
    del sessions
    served = node.status().usage.total.tokens
    done = client.generate(PROMPT, NEW_TOKENS)

    figures.keep("single-node-stop", {"stopped_after_s": node.stop()})

    assert node.processes() == {}
    assert node.host.show(node.node.unit, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert cluster.oracle.booked(node.agent) == served + len(PROMPT) + len(done.ids) - 1
