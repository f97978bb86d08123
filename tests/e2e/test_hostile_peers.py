"""A node among hostile peers while an honest client generates: that one notices nothing, and each token counts once.

What each attack does by itself is in tests/petals/test_hostile_peers.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.devnet.client.process import ENGINE_PYTHON, ROOT
from tests.devnet.hostile import HostilePeer
from tests.e2e import figures
from tests.e2e.clients import Load
from tests.e2e.cluster import PREFIX, Cluster
from tests.e2e.conftest import BLOCKS
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.clients import Client
    from tests.e2e.cluster import Images
    from tests.e2e.nodes import ClusterNode, StatusView

pytestmark = pytest.mark.timeout(600)

PROMPT = tuple(range(5, 25))
NEW_TOKENS = 20
HIDDEN = 64
PLACES_LEFT_WITHIN_S: Final = 60.0
LONGEST = 2048
MIB = 2**20
ATTACKS: Final[tuple[tuple[str, dict[str, int]], ...]] = (
    ("malformed", {}),
    ("malformed_otherwise", {}),
    ("no_protocol", {}),
    ("garbage", {"connections": 500}),
    ("silent_streams", {"count": 300}),
    ("let_go", {}),
    ("oversized", {"mebibytes": 512}),
    ("trickle", {"count": 100}),
    ("reserve_and_leave", {"count": 100}),
    ("store", {"mebibytes": 100}),
)
SERVED_BY_THE_WAY = 6
"""Tokens of the first steps of the two sessions of `malformed_otherwise` whose second one is malformed."""


@dataclass(frozen=True)
class Footprint:
    """What the processes of a node take.

    Attributes:
        memory: bytes, shared ones by their share.
        descriptors: open ones.
    """

    memory: int
    descriptors: int

    @classmethod
    def of(cls, node: ClusterNode) -> Footprint:
        pids = " ".join(map(str, node.processes().values()))
        pss = node.host.run(f"for p in {pids}; do grep ^Pss: /proc/$p/smaps_rollup; done").stdout.split()
        files = node.host.run(f"for p in {pids}; do ls /proc/$p/fd; done").stdout.split()
        return cls(sum(int(kib) for kib in pss[1::3]) * 1024, len(files))


@dataclass(frozen=True)
class Attacked:
    """What came of all attacks.

    Attributes:
        outcomes: of each part of each attack.
        load: the honest client's.
        received: tokens that the honest client got over its life.
        before, after: the node's status.
        footprint_before, footprint_after: of its processes.
        journal: of the node, meanwhile.
    """

    outcomes: dict[str, str]
    load: Load
    received: int
    before: StatusView
    after: StatusView
    footprint_before: Footprint
    footprint_after: Footprint
    journal: tuple[str, ...]


@pytest.fixture(scope="module")
def cluster(cluster_images: Images, model: Path, logs: Path) -> Iterator[Cluster]:
    with Cluster.running(cluster_images, model, logs) as running:
        node = running.add_node("a", f"0:{BLOCKS}")
        node.start()
        node.wait_serving()
        yield running


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> ClusterNode:
    return cluster.node("a")


@pytest.fixture(scope="module")
def hostile(cluster: Cluster, node: ClusterNode, logs: Path) -> Iterator[HostilePeer]:
    host = cluster.bootstrap.program.host
    python = host.argv("env", "-C", str(ROOT), str(ENGINE_PYTHON))
    (address,) = (each for each in node.status().engine.addresses if f"/ip4/{node.host.address}/" in each)
    with HostilePeer(address, PREFIX, BLOCKS, HIDDEN, log=logs / "hostile.log", python=python) as peer:
        yield peer


@pytest.fixture(scope="module")
def attacked(node: ClusterNode, client: Client, hostile: HostilePeer) -> Attacked:
    reference = client.generate(PROMPT, NEW_TOKENS).ids
    before, footprint_before, cursor = node.status(), Footprint.of(node), node.host.cursor()
    outcomes: dict[str, str] = {}
    seconds: dict[str, float] = {}
    with Load(client, PROMPT, reference) as load:
        for attack, arguments in ATTACKS:
            began = time.monotonic()
            found = hostile.do(attack, **arguments)
            seconds[f"{attack}_s"] = time.monotonic() - began
            outcomes |= {f"{attack}: {name}": outcome for name, outcome in found.items()}
    last = client.generate(PROMPT, NEW_TOKENS)
    assert last.ids == reference
    node.wait_counted(last.received + SERVED_BY_THE_WAY)
    journal = tuple(record.message for record in node.host.journal(node.node.unit, after=cursor))
    footprint_after = Footprint.of(node)
    measured = {
        "memory_before_mib": footprint_before.memory / MIB,
        "memory_after_mib": footprint_after.memory / MIB,
        "descriptors_before": footprint_before.descriptors,
        "descriptors_after": footprint_after.descriptors,
        "honest_sessions_meanwhile": len(load.finished),
    }
    figures.keep("hostile-peers", {**seconds, **measured})
    return Attacked(outcomes, load, last.received, before, node.status(), footprint_before, footprint_after, journal)


def test_nothing_that_is_malformed_is_served(attacked: Attacked) -> None:
    malformed = {
        name: what for name, what in attacked.outcomes.items() if name.startswith(("malformed", "no_protocol"))
    }

    assert len(malformed) > 600
    # A stream may be gone before its peer has read why.
    assert {name for name, what in malformed.items() if not what.startswith("refused") and what != "closed"} == set()


def test_the_honest_client_gets_its_tokens_all_the_time(cluster: Cluster, attacked: Attacked) -> None:
    load = attacked.load

    assert load.finished
    assert load.errors == []
    assert load.wrong == []
    with cluster.single_process() as single:
        assert single.generate(PROMPT, NEW_TOKENS).ids == load.reference


def test_the_engine_lives_on_and_the_node_has_nothing_to_complain_of(attacked: Attacked) -> None:
    assert attacked.after.engine.incarnation == attacked.before.engine.incarnation
    assert attacked.after.engine.restarts == attacked.before.engine.restarts
    assert attacked.after.serving
    assert not attacked.after.problems


def test_memory_and_descriptors_stay_bounded(attacked: Attacked) -> None:
    # 64 MiB of DHT entries, at most as much of messages that wait, and what allocators keep of it.
    assert attacked.footprint_after.memory < attacked.footprint_before.memory + 350 * MIB
    # What is open still: a hundred messages that never end.
    assert attacked.footprint_after.descriptors < attacked.footprint_before.descriptors + 500


def test_what_is_booked_is_what_the_honest_client_got(cluster: Cluster, node: ClusterNode, attacked: Attacked) -> None:
    assert attacked.after.usage.total.tokens == attacked.received + SERVED_BY_THE_WAY

    cluster.oracle.wait_booked(node.agent, attacked.after.usage.total.tokens)


def test_the_journal_has_some_lines_of_it_and_no_traceback(attacked: Attacked) -> None:
    refused = [line for line in attacked.journal if "Refusal" in line or "is refused" in line]

    assert refused
    # Of some two thousand requests and streams; each place in the code has 20 lines a minute.
    assert len(refused) < 400
    assert not any("Traceback" in line for line in attacked.journal)


def test_attention_cache_that_idle_sessions_hold_goes_to_the_honest_client(
    client: Client, hostile: HostilePeer, node: ClusterNode, attacked: Attacked
) -> None:
    counted = node.status().usage.total.tokens
    # Its requests from before fill the places that a peer may have.
    hostile.do("let_go")
    taken = 0

    def four_taken() -> bool:
        nonlocal taken
        taken += int(hostile.do("reserve", count=4 - taken, length=LONGEST).get("served", 0))
        return taken == 4

    wait_until("four sessions hold attention cache", four_taken, PLACES_LEFT_WITHIN_S)

    done = client.generate(PROMPT, NEW_TOKENS)

    assert done.ids == attacked.load.reference
    node.wait_counted(counted + done.received - attacked.received + taken)
