"""How the rows of the fault matrix are run: a client keeps generating while one thing goes wrong, and nothing is lost.

Both nodes serve the whole model, so each session can go on through the other one. What comes of each row is in
build/e2e/faults.md and faults.json. A module of tests has a cluster of its own, and so a worker of its own.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e import figures
from tests.e2e.clients import Load
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import BLOCKS
from tests.e2e.faults import BASE_FEE_WEI, Stage
from tests.e2e.mishaps import NEXT_VERSION
from tests.e2e.nodes import STATUS_PAUSE_S
from tests.e2e.outcomes import Outcome, keep
from tests.hosts.host import Hardware, HostError
from tests.hosts.waiting import wait_until
from tests.packaging.node import PORT
from tests.packaging.repository import NODE, renamed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clients import Client
    from tests.e2e.cluster import Images
    from tests.e2e.faults import Row
    from tests.e2e.nodes import ClusterNode, StatusView
    from tests.packaging.repository import Repository

PROMPT = tuple(range(5, 25))
NEW_TOKENS = 40
NAMES = ("a", "b")
GENERATING_WITHIN_S = 120.0
NOTICED_WITHIN_S = 120.0
RECOVERED_WITHIN_S = 300.0
SETTLED_WITHIN_S = 240.0
# Five deaths without a long run between them are a crash loop, which is not what a row is about.
DEATHS_BEFORE_FRESH = 3


@dataclass(frozen=True)
class Watch:
    """Looks at a node, and remembers what it told.

    Attributes:
        told: codes of the problems that were seen.
    """

    node: ClusterNode
    told: set[str]

    def status(self) -> StatusView | None:
        """The node's status; None where there is none, be it that the whole host does not answer."""
        try:
            status = self.node.status_if_any()
        except HostError:
            return None
        self.told.update(() if status is None else status.codes)
        return status

    def well(self) -> bool:
        """Whether the node serves and has nothing to complain of."""
        status = self.status()
        return status is not None and status.well


@pytest.fixture(scope="module")
def hardware(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Hardware:
    """Of the nodes: memory limits work, and there is a newer package to upgrade to."""
    place = tmp_path_factory.mktemp("next")
    renamed(repository.package(NODE), "99", place, {})
    return Hardware("controllers", mounts={NEXT_VERSION: place})


@pytest.fixture(scope="module")
def cluster(cluster_images: Images, model: Path, hardware: Hardware, logs: Path) -> Iterator[Cluster]:
    with Cluster.running(cluster_images, model, logs) as running:
        running.chain.ask(lambda chain: chain.set_fees(base_fee=BASE_FEE_WEI))
        for name in NAMES:
            extra = {"oracle": {"timeout_s": 5.0}, "chain": {"rpc_timeout_s": 3.0}}
            running.add_node(name, f"0:{BLOCKS}", extra, hardware).start()
        for node in running.nodes.values():
            node.wait_serving()
        yield running


@pytest.fixture(scope="module")
def reference(cluster: Cluster) -> tuple[int, ...]:
    with cluster.single_process() as single:
        return single.generate(PROMPT, NEW_TOKENS).ids


def withstand(cluster: Cluster, client: Client, reference: tuple[int, ...], row: Row) -> None:
    """Have one fault happen while the client generates, and keep what came of it.

    Raises:
        AssertionError: something was lost, or wrong, or did not recover.
    """
    with Load(client, PROMPT, reference) as load:
        victim, other = busy_first(cluster, load)
        stage = Stage(cluster, victim, other, victim.wait("all is well", lambda status: status.well))
        with contextlib.ExitStack() as stack:
            if row.clear is not None:
                stack.callback(row.clear, stage)
            if row.prepare is not None:
                row.prepare(stage)
            stage = Stage(
                cluster, victim, other, victim.wait("all is well", lambda status: status.well, RECOVERED_WITHIN_S)
            )
            watch = Watch(victim, set())
            noticed_after_s, recovered_after_s = suffer(stage, row, load, watch)
    served = {node.name: cluster.wait_settled(node, SETTLED_WITHIN_S) for node in (victim, other)}
    booked = {node.name: cluster.oracle.booked(node.agent) for node in (victim, other)}
    lost = sum(served.values()) - sum(booked.values())
    keep(
        Outcome(
            row.fault,
            row.expected,
            tuple(sorted(watch.told)),
            round(noticed_after_s, 1),
            round(recovered_after_s, 1),
            recovered=True,
            served=served,
            booked=booked,
            lost=lost,
            sessions=len(load.finished),
            failed_sessions=len(load.errors),
        )
    )
    assert load.wrong == []
    assert lost == 0


def stop_leaves_nothing(cluster: Cluster, part: str) -> None:
    """Stop both nodes.

    Raises:
        AssertionError: a process or an open port is left.
    """
    stopped = {f"{name}_stopped_after_s": cluster.node(name).stop() for name in NAMES}
    figures.keep(part, stopped)

    for name in NAMES:
        node = cluster.node(name)
        assert node.processes() == {}
        assert node.host.run(f"ss --no-header --listening --tcp --numeric 'sport = :{PORT}'").stdout == ""


def suffer(stage: Stage, row: Row, load: Load, watch: Watch) -> tuple[float, float]:
    """Begin the fault, wait until the node tells of it, end it, and wait until all is well.

    Returns:
        How long it took to tell once the fault was on, and to be well once it was over.
    """
    row.begin(stage)
    began = time.monotonic()
    try:
        wait_until(
            f"{stage.victim.name} tells of: {row.fault}",
            lambda: row.noticed(stage, watch.status()),
            NOTICED_WITHIN_S,
            STATUS_PAUSE_S,
        )
        noticed = time.monotonic()
        finished = len(load.finished)
        # With the fault still on, or its traces fresh.
        load.wait_finished(finished + 1, GENERATING_WITHIN_S)
        if row.lasts_s:
            time.sleep(max(0.0, began + row.lasts_s - time.monotonic()))
    finally:
        if row.end is not None:
            row.end(stage)
    ended = time.monotonic()
    try:
        wait_until("all is well again", watch.well, RECOVERED_WITHIN_S, STATUS_PAUSE_S)
    except TimeoutError:
        # Says what is not.
        stage.victim.wait("all is well again", lambda status: status.well, 0.0)
    recovered = time.monotonic()
    load.wait_finished(len(load.finished) + 1, GENERATING_WITHIN_S)
    return noticed - began, recovered - ended


def busy_first(cluster: Cluster, load: Load) -> tuple[ClusterNode, ClusterNode]:
    """Both nodes, the one that the client's sessions go through first, with few deaths behind it."""
    for name in NAMES:
        node = cluster.node(name)
        status = node.status_if_any()
        # What a row that failed has left is no later row's business either.
        if status is None or not status.serving or status.engine.restarts >= DEATHS_BEFORE_FRESH:
            node.host.systemctl("reset-failed", node.node.unit, check=False)
            node.host.systemctl("restart", node.node.unit)
        node.wait_serving()
    before = {name: cluster.node(name).status().usage.total.tokens for name in NAMES}
    load.wait_finished(1, GENERATING_WITHIN_S)
    grown = {name: cluster.node(name).status().usage.total.tokens - tokens for name, tokens in before.items()}
    first, second = sorted(NAMES, key=lambda name: -grown[name])
    return cluster.node(first), cluster.node(second)
