"""A soak from beginning to end: nodes under load, first with faults, then without, and what is left of it all."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.devnet.client.process import ROOT
from tests.e2e.clients import Load
from tests.e2e.cluster import Cluster
from tests.e2e.faults import BASE_FEE_WEI
from tests.e2e.mishaps import NEXT_VERSION
from tests.hosts.host import Hardware
from tests.hosts.ownership import mine
from tests.packaging.node import PORT
from tests.soak import full_ledger
from tests.soak.figures import FIGURES
from tests.soak.judgement import judged
from tests.soak.outcome import Books, Outcome, Sessions
from tests.soak.sampling import Sampler
from tests.soak.storm import RECOVERED_WITHIN_S, Storm, drawn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.e2e.cluster import Images
    from tests.e2e.nodes import ClusterNode
    from tests.soak.judgement import Judgement
    from tests.soak.storm import Struck

BLOCKS: Final = 24
NAMES: Final = ("a", "b")
METRICS_PORT: Final = 9464
DIRECTORY: Final = ROOT / "build" / "soak"
PROMPTS: Final = (tuple(range(5, 25)), tuple(range(40, 52)))
"""One for each client."""
NEW_TOKENS: Final = 40
REMEMBERED_PROOFS: Final = 100_000
"""A ledger grows until it remembers so many. The nodes begin with such a one."""
_STORMY: Final = 0.75
_SETTLING_S: Final = 60.0
_SAMPLES_EVERY_S: Final = 4.0
_FULL_LEDGER: Final = Path(full_ledger.__file__).read_bytes()


@dataclass(frozen=True)
class Plan:
    """How long, and which faults."""

    hours: float
    seed: int

    @property
    def storm_s(self) -> float:
        """How long faults are made."""
        return _STORMY * self.hours * 3600

    @property
    def calm_s(self) -> float:
        """How long the nodes serve without any, at the end."""
        return (1 - _STORMY) * self.hours * 3600

    @property
    def settling_s(self) -> float:
        """Age up to which a life is not judged; shorter where the whole is short."""
        return min(_SETTLING_S, self.hours * 3600 / 15)


@dataclass(frozen=True)
class Ran:
    """What happened until the nodes were stopped."""

    seconds: float
    calm_s: float
    faults: tuple[Struck, ...]
    unrecovered: str
    sessions: Sessions


def soak(plan: Plan, images: Images, model: Path, upgrade: Path, say: Callable[[str], None]) -> tuple[Outcome, Sampler]:
    """Carry out a plan.

    Args:
        plan: what is done.
        images: of the hosts.
        model: the checkpoint.
        upgrade: directory with a newer plumise-node.
        say: is told what happens.

    Returns:
        What came of it, and the samples.
    """
    with Cluster.running(images, model, DIRECTORY) as cluster:
        cluster.chain.ask(lambda chain: chain.set_fees(base_fee=BASE_FEE_WEI))
        nodes = [_started(cluster, name, upgrade) for name in NAMES]
        sampler = Sampler(nodes, _SAMPLES_EVERY_S)
        ran = _run(plan, cluster, sampler, say)
        books = {node.name: _books(cluster, node) for node in nodes}
        defects = sampler.errors + [f"{node.name}: {each}" for node in nodes for each in _defects(node)]
        left = [f"{node.name}: {each}" for node in nodes for each in _left_by(node)]
    left += [f"Docker: {each}" for each in mine()]
    outcome = Outcome(
        seed=plan.seed,
        hours=plan.hours,
        seconds=ran.seconds,
        calm_s=ran.calm_s,
        faults=ran.faults,
        unrecovered=ran.unrecovered,
        sessions=ran.sessions,
        books=books,
        left=tuple(left),
        defects=tuple(defects),
        judgements={node.name: _judgements(plan, sampler, node.name) for node in nodes},
    )
    return outcome, sampler


def _started(cluster: Cluster, name: str, upgrade: Path) -> ClusterNode:
    """A node that serves the whole model, with a ledger that remembers as much as it ever does."""
    hardware = Hardware(cgroups="controllers", mounts={NEXT_VERSION: upgrade}, capabilities=["SYS_PTRACE"])
    extra = {"oracle": {"timeout_s": 5.0}, "chain": {"rpc_timeout_s": 3.0}}
    node = cluster.add_node(name, f"0:{BLOCKS}", extra, hardware)
    node.start()
    node.wait_serving()
    node.stop()
    node.host.run(
        f"python3 - {node.node.state_dir}/ledger.sqlite {REMEMBERED_PROOFS}", stdin=_FULL_LEDGER, user="plumise"
    )
    node.start()
    node.wait("all is well", lambda status: status.well, RECOVERED_WITHIN_S)
    return node


def _run(plan: Plan, cluster: Cluster, sampler: Sampler, say: Callable[[str], None]) -> Ran:
    with cluster.single_process() as single:
        references = [single.generate(prompt, NEW_TOKENS).ids for prompt in PROMPTS]
    unrecovered = ""
    with ExitStack() as stack:
        clients = [stack.enter_context(cluster.client(f"client-{number}")) for number in range(len(PROMPTS))]
        stack.enter_context(sampler)
        loads = [
            stack.enter_context(Load(client, prompt, reference))
            for client, prompt, reference in zip(clients, PROMPTS, references, strict=True)
        ]
        began = time.monotonic()
        storm = Storm(cluster, began, say)
        try:
            storm.rage(drawn(plan.seed, NAMES), began + plan.storm_s)
        except TimeoutError as error:
            unrecovered = str(error)
        calm = time.monotonic()
        finished, failed = _count(loads)
        say(f"no more faults: {finished} sessions have ended well, {failed} failed")
        time.sleep(plan.calm_s)
        over = time.monotonic()
        for load in loads:
            load.stop()
    every, errors = _count(loads)
    return Ran(
        seconds=over - began,
        calm_s=calm - began,
        faults=tuple(storm.struck),
        unrecovered=unrecovered,
        sessions=Sessions(
            finished=every,
            failed=errors,
            wrong=sum(len(load.wrong) for load in loads),
            finished_in_calm=every - finished,
            failed_in_calm=errors - failed,
        ),
    )


def _count(loads: Sequence[Load]) -> tuple[int, int]:
    return sum(len(load.finished) for load in loads), sum(len(load.errors) for load in loads)


def _judgements(plan: Plan, sampler: Sampler, node: str) -> dict[str, Judgement]:
    return {
        figure.name: judged(sampler.points_while_serving(node, figure), plan.settling_s, figure.bound)
        for figure in FIGURES
    }


def _books(cluster: Cluster, node: ClusterNode) -> Books:
    """The books of a node once they agree, or as they are after a long time."""
    try:
        served = cluster.wait_settled(node, RECOVERED_WITHIN_S)
    except TimeoutError:
        served = node.status().usage.total.tokens
    return Books(served, cluster.oracle.booked(node.agent))


def _defects(node: ClusterNode) -> list[str]:
    """What the daemon's journal has of its own mistakes."""
    journal = f"journalctl --quiet --output=cat --unit={node.node.unit}"
    failed = node.host.run(f"{journal} PLUMISE_EVENT=part-failed").stdout.splitlines()
    raised = node.host.run(f"{journal} --identifier=plumised | grep -A 30 '^Traceback' || true").stdout.splitlines()
    return [*failed, *raised]


def _left_by(node: ClusterNode) -> list[str]:
    """Stop a node; what is still there then."""
    node.stop()
    state = node.node.state_dir
    looks = {
        "process": "ps -o comm= -u plumise",
        "listens": f"ss -Hltn 'sport = :{PORT} or sport = :{METRICS_PORT}'",
        "run": "find /run/plumise -mindepth 1",
        "tally": f"find {state}/engine/tally -type f",
        "temporary": "find /tmp -mindepth 1 -name '*plumised*'",
        "shared memory": "find /dev/shm -type f -user plumise",
        "set aside": f"find {state} -name '*.damaged-*'",
    }
    found = {what: node.host.run(f"{look} 2>/dev/null || true").stdout.splitlines() for what, look in looks.items()}
    return [f"{what}: {line}" for what, lines in found.items() for line in lines]
