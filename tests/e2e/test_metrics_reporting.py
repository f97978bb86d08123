"""Reports to the Oracle in both dialects: to the byte, signed, and complete whatever happens on the way.

Two nodes share the model; one speaks report-v1, the other metrics-v1. What they send is taken down on its way.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from tests.devnet.oracle import Fault
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import BLOCKS
from tests.e2e.wiretap import Wiretap, tapping
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.clients import Client
    from tests.e2e.cluster import Images
    from tests.e2e.nodes import ClusterNode
    from tests.e2e.wiretap import Exchange

pytestmark = pytest.mark.timeout(600)

PROMPT = tuple(range(5, 25))
NEW_TOKENS = 8
TOLD_WITHIN_S = 60.0
# A report whose fate nobody knows is sent again when it is 30 to 55 s old, and given up when it is 95 s old.
BOOKED_WITHIN_S = 240.0


@dataclass(frozen=True)
class Form:
    """A dialect, as the Oracle's side describes it.

    Attributes:
        node: that speaks it.
        path: that reports are posted to.
        fields: of a report without proofs.
    """

    node: str
    dialect: str
    path: str
    fields: frozenset[str]

    def claims(self, body: dict[str, object]) -> dict[str, object]:
        """The part of a body that says something."""
        inner = body["payload"] if self.dialect == "report-v1" else body
        assert isinstance(inner, dict)
        return inner

    def signed_text(self, body: dict[str, object]) -> str:
        """What the signature is of."""
        said = self.claims(body)
        if self.dialect == "report-v1":
            return json.dumps(said, sort_keys=True, separators=(",", ":"))
        signed = {
            "agent": said["wallet"],
            "processed_tokens": said["tokensProcessed"],
            "timestamp": said["timestamp"],
        }
        return json.dumps(signed, separators=(",", ":"))

    def tokens(self, body: dict[str, object]) -> int:
        """The cumulative tokens."""
        tokens = self.claims(body)["processed_tokens" if self.dialect == "report-v1" else "tokensProcessed"]
        assert isinstance(tokens, int)
        return tokens


REPORT_V1 = Form(
    "a",
    "report-v1",
    "/api/v1/report",
    frozenset({"agent", "processed_tokens", "avg_latency_ms", "uptime_seconds", "tasks_completed", "timestamp"}),
)
METRICS_V1 = Form(
    "b",
    "metrics-v1",
    "/api/v1/metrics/report",
    frozenset({"wallet", "tokensProcessed", "avgLatencyMs", "requestCount", "uptimeSeconds", "timestamp", "signature"}),
)
FORMS = (REPORT_V1, METRICS_V1)
SPANS = {"a": f"0:{BLOCKS // 2}", "b": f"{BLOCKS // 2}:{BLOCKS}"}

in_both_dialects = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.dialect)


@dataclass(frozen=True)
class Scene:
    """The cluster, a client of it, and what passes between nodes and Oracle."""

    cluster: Cluster
    client: Client
    tap: Wiretap

    def node(self, form: Form) -> ClusterNode:
        return self.cluster.node(form.node)

    def served(self, form: Form) -> int:
        return self.node(form).status().usage.total.tokens

    def wait_booked(self) -> None:
        """Wait until all that both nodes served is booked."""
        for form in FORMS:
            self.cluster.wait_settled(self.node(form), BOOKED_WITHIN_S)

    def last(self, form: Form) -> Exchange:
        """The last accepted report in that dialect."""
        return self.tap.posted(form.path)[-1]


@pytest.fixture(scope="module")
def scene(cluster_images: Images, model: Path, logs: Path) -> Iterator[Scene]:
    with Cluster.running(cluster_images, model, logs) as cluster:
        tap_manager = tapping(cluster.oracle.url_here, cluster.network.gateway)
        with cluster.portal.wrap_async_context_manager(tap_manager) as tap:
            for form in FORMS:
                extra = {"oracle": {"url": tap.url, "dialect": form.dialect, "timeout_s": 5.0}}
                cluster.add_node(form.node, SPANS[form.node], extra).start()
            for node in cluster.nodes.values():
                node.wait_serving()
            with cluster.client() as client:
                client.generate(PROMPT, NEW_TOKENS)
                scene = Scene(cluster, client, tap)
                scene.wait_booked()
                yield scene


@in_both_dialects
def test_a_report_says_what_the_node_served_in_the_fields_of_its_dialect(scene: Scene, form: Form) -> None:
    total = scene.node(form).status().usage.total
    body = scene.last(form).document()
    said = form.claims(body)

    assert set(said) - {"proofs"} == form.fields
    assert form.tokens(body) == total.tokens > 0
    assert said["tasks_completed" if form is REPORT_V1 else "requestCount"] == total.requests
    latency = said["avg_latency_ms" if form is REPORT_V1 else "avgLatencyMs"]
    assert latency == pytest.approx(total.service_us / total.requests / 1000, rel=0.01)
    timestamp = said["timestamp"]
    assert isinstance(timestamp, int)
    assert abs(timestamp - time.time()) < 60


@in_both_dialects
def test_the_signature_recovers_to_the_node_s_wallet(scene: Scene, form: Form) -> None:
    for report in scene.tap.posted(form.path):
        body = report.document()
        text = encode_defunct(text=form.signed_text(body))
        assert Account.recover_message(text, signature=str(body["signature"])) == scene.node(form).agent


@in_both_dialects
def test_timestamps_only_grow_and_tokens_never_shrink(scene: Scene, form: Form) -> None:
    bodies = [report.document() for report in scene.tap.posted(form.path)]

    timestamps = [int(str(form.claims(body)["timestamp"])) for body in bodies]
    tokens = [form.tokens(body) for body in bodies]
    assert timestamps == sorted(set(timestamps))
    assert tokens == sorted(tokens)


@in_both_dialects
def test_the_oracle_refuses_a_report_that_was_changed_on_the_way(scene: Scene, form: Form) -> None:
    body = scene.last(form).document()
    name = "processed_tokens" if form is REPORT_V1 else "tokensProcessed"
    forged = json.loads(json.dumps(body))
    form.claims(forged)[name] = form.tokens(body) + 1

    assert _post(scene, form.path, forged) == 401
    assert scene.cluster.oracle.booked(scene.node(form).agent) == scene.served(form)


def _post(scene: Scene, path: str, body: dict[str, object]) -> int:
    async def posted() -> int:
        url = scene.cluster.oracle.url_here + path
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            return response.status

    return scene.cluster.portal.call(posted)


def test_sessions_are_proven_in_metrics_v1_and_only_there(scene: Scene) -> None:
    def proven(form: Form) -> bool:
        return any("proofs" in report.document() for report in scene.tap.posted(form.path))

    # A session is proven once it has ended, which may be after its tokens were reported.
    wait_until("a report brings proofs", lambda: proven(METRICS_V1), BOOKED_WITHIN_S)
    assert not proven(REPORT_V1)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong between nodes and Oracle.

    Attributes:
        codes: of which the status of each node shows one.
    """

    name: str
    begin: Callable[[Scene], None]
    end: Callable[[Scene], None]
    codes: frozenset[str]


def answers(name: str, fault: Fault, *codes: str) -> Trouble:
    return Trouble(
        name,
        lambda scene: scene.cluster.oracle.ask(lambda oracle: oracle.switch_on(fault)),
        lambda scene: scene.cluster.oracle.ask(lambda oracle: oracle.clear_faults()),
        frozenset(codes),
    )


def cut(scene: Scene) -> None:
    for node in scene.cluster.nodes.values():
        node.host.run(f"ip route add blackhole {scene.cluster.network.gateway}")


def heal(scene: Scene) -> None:
    for node in scene.cluster.nodes.values():
        node.host.run(f"ip route del blackhole {scene.cluster.network.gateway}")


def stop_oracle(scene: Scene) -> None:
    scene.cluster.oracle.program.stop("KILL")


def start_oracle(scene: Scene) -> None:
    scene.cluster.oracle.program.start()
    scene.cluster.oracle.wait_until_up()


UNKNOWN = ("oracle-unknown-outcome", "oracle-unsettled", "oracle-unreachable")
TROUBLES = (
    answers("500", Fault(kind="status", status=500), *UNKNOWN),
    answers("503-with-retry-after", Fault(kind="status", status=503, retry_after="3"), *UNKNOWN, "oracle-busy"),
    answers("429", Fault(kind="refuse", status=429, message="Too many"), "oracle-busy"),
    answers("401", Fault(kind="refuse", status=401, message="Invalid signature"), "oracle-signature"),
    answers("no-answer", Fault(kind="hang"), *UNKNOWN),
    answers("reply-lost", Fault(kind="drop", when="after"), *UNKNOWN),
    Trouble("oracle-killed", stop_oracle, start_oracle, frozenset(UNKNOWN)),
    Trouble("network-cut", cut, heal, frozenset(UNKNOWN)),
)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
def test_what_is_served_in_times_of_trouble_is_told_as_trouble_and_booked_afterwards(
    scene: Scene, trouble: Trouble
) -> None:
    before = {form: scene.served(form) for form in FORMS}
    trouble.begin(scene)
    try:
        done = scene.client.generate(PROMPT, NEW_TOKENS)
        for form in FORMS:
            told = scene.node(form).wait(
                f"it tells one of {sorted(trouble.codes)}", lambda s: bool(s.codes & trouble.codes), TOLD_WITHIN_S
            )
            assert told.serving
            assert all(problem.remedy for problem in told.problems)
    finally:
        trouble.end(scene)

    for form, tokens in before.items():
        scene.node(form).wait_counted(tokens + len(PROMPT) + len(done.ids) - 1)
    scene.wait_booked()
