"""The fault matrix as data: what is done to a node or around it, what its status must say, and how it is undone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.devnet.chain import FaultMode, MiningMode
from tests.devnet.oracle import Fault
from tests.e2e import mishaps
from tests.e2e.nodes import ENGINE, HANDLER, P2PD

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.devnet.chain import Admin
    from tests.e2e.cluster import Cluster
    from tests.e2e.nodes import ClusterNode, StatusView
    from tests.hosts.host import Host

DAEMON: Final = "plumised"
BASE_FEE_WEI: Final = 5_000_001
BALANCE_WEI: Final = 10**18
AGENT_DEAD_AFTER_S: Final = 300.0
"""From then on the chain calls an agent dead that has sent no heartbeat."""

Deed = Callable[["Stage"], None]


@dataclass(frozen=True)
class Stage:
    """Where a fault takes place.

    Attributes:
        victim: the node whose status is looked at.
        other: the one that serves the same span.
        before: the victim's status just before.
    """

    cluster: Cluster
    victim: ClusterNode
    other: ClusterNode
    before: StatusView


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: its name.
        expected: what the node does about it, in words.
        begin: makes it.
        end: mends what does not mend itself, once the node has told of it.
        noticed: whether a status of the victim, None while no daemon answers, tells of it.
        prepare: what it takes beforehand, while nothing is wrong.
        clear: undoes that.
        lasts_s: how long it is kept up at least.
    """

    fault: str
    expected: str
    begin: Deed
    noticed: Callable[[Stage, StatusView | None], bool]
    end: Deed | None = None
    prepare: Deed | None = None
    clear: Deed | None = None
    lasts_s: float = 0.0


def tells(*codes: str) -> Callable[[Stage, StatusView | None], bool]:
    """Noticed by one of these codes, with a remedy."""

    def noticed(_: Stage, status: StatusView | None) -> bool:
        found = () if status is None else [each for each in status.problems if each.code in codes]
        return any(each.message and each.remedy for each in found)

    return noticed


def no_daemon(stage: Stage, status: StatusView | None) -> bool:
    """Noticed since `plumised status` says that no daemon answers, or another one does already."""
    return status is None or not status.serving or status.engine.incarnation != stage.before.engine.incarnation


def nothing_to_tell(_: Stage, status: StatusView | None) -> bool:
    """The node need not say anything but that it serves."""
    return status is not None and status.serving


def signalled(name: str, how: str, said: str, expected: str) -> Row:
    """A process of the node gets a signal."""
    return Row(
        f"{said} {name}",
        expected,
        lambda stage: stage.victim.signal(name, how),
        no_daemon if name == DAEMON else tells(*_ENGINE_ENDED),
    )


_ENGINE_ENDED: Final = (
    "engine-killed",
    "engine-crashed",
    "engine-exited",
    "engine-stuck",
    "engine-spinning",
    "engine-part-dead",
    "engine-part-absent",
)


def oracle(name: str, fault: Fault, *codes: str) -> Row:
    """The Oracle misbehaves."""
    return Row(
        f"Oracle: {name}",
        "serves on, keeps the work, reports it later",
        lambda stage: stage.cluster.oracle.ask(lambda control: control.switch_on(fault)),
        tells(*codes),
        lambda stage: stage.cluster.oracle.ask(lambda control: control.clear_faults()),
    )


def chain(
    name: str,
    begin: Callable[[Admin, str], Awaitable[None]],
    end: Callable[[Admin, str], Awaitable[None]],
    noticed: Callable[[Stage, StatusView | None], bool],
    lasts_s: float = 0.0,
) -> Row:
    """The chain misbehaves."""
    return Row(
        f"chain: {name}",
        "serves on, sends heartbeats when it can",
        lambda stage: stage.cluster.chain.ask(lambda admin: begin(admin, stage.victim.agent)),
        noticed,
        lambda stage: stage.cluster.chain.ask(lambda admin: end(admin, stage.victim.agent)),
        lasts_s=lasts_s,
    )


def cut(name: str, host: Callable[[Stage], Host], noticed: Callable[[Stage, StatusView | None], bool]) -> Row:
    """The network between the victim and another host is cut, both ways as far as answers go."""
    return Row(
        f"network: cut from {name}",
        "serves whom it reaches, goes on when healed",
        lambda stage: stage.victim.cut_off_from(host(stage)),
        noticed,
        lambda stage: stage.victim.heal(host(stage)),
    )


def _kill_host(stage: Stage) -> None:
    stage.victim.host.kill()


def _start_host(stage: Stage) -> None:
    stage.victim.host.start()


def _restart_host(stage: Stage) -> None:
    stage.victim.host.restart()


def _keep_database(stage: Stage) -> None:
    stage.cluster.oracle.keep_database()


def _restore_database(stage: Stage) -> None:
    stage.cluster.oracle.restart_with_kept_database()


def _stop_oracle(stage: Stage) -> None:
    stage.cluster.oracle.program.stop("KILL")


def _start_oracle(stage: Stage) -> None:
    stage.cluster.oracle.program.start()
    stage.cluster.oracle.wait_until_up()


_UNKNOWN: Final = ("oracle-unknown-outcome", "oracle-unsettled", "oracle-unreachable")
_NO_CHAIN: Final = ("rpc-none-usable", "rpc-unreachable")
_STATE_DISK: Final = mishaps.SmallDisk("/var/lib/plumise")
_CACHE_DISK: Final = mishaps.SmallDisk("/var/cache/plumise")
_ELSEWHERE: Final = "the session goes on through the other node; the engine is started again"

NODE_ROWS: Final = (
    signalled(ENGINE, "KILL", "kill -9", _ELSEWHERE),
    signalled(ENGINE, "STOP", "SIGSTOP", _ELSEWHERE),
    signalled(HANDLER, "KILL", "kill -9", _ELSEWHERE),
    signalled(HANDLER, "STOP", "SIGSTOP", _ELSEWHERE),
    signalled(P2PD, "KILL", "kill -9", _ELSEWHERE),
    signalled(P2PD, "STOP", "SIGSTOP", _ELSEWHERE),
    signalled(DAEMON, "KILL", "kill -9", "systemd starts it again, nothing of the count is lost"),
    signalled(DAEMON, "STOP", "SIGSTOP", "systemd's watchdog ends it and starts it again"),
    Row(
        "host paused",
        "the session goes on through the other node",
        lambda stage: stage.victim.host.pause(),
        no_daemon,
        lambda stage: stage.victim.host.unpause(),
    ),
    Row("host killed", "comes back with the machine", _kill_host, no_daemon, _start_host),
    Row("host restarted", "stops in order, comes back with the machine", _restart_host, no_daemon),
    Row(
        "clock +90 s",
        "serves on, signs nothing until the clock is right",
        mishaps.restart_with_clock("+90s"),
        tells("oracle-clock-skew", "clock-skew"),
        mishaps.restart_with_true_clock,
    ),
    Row(
        "clock -90 s",
        "serves on, signs nothing until the clock is right",
        mishaps.restart_with_clock("-90s"),
        tells("oracle-clock-skew", "clock-skew", "oracle-clock-behind"),
        mishaps.restart_with_true_clock,
    ),
    Row(
        "port taken",
        "says whose fault it is, serves when the port is free",
        mishaps.take_port,
        tells("port-taken"),
        mishaps.free_port,
    ),
    Row(
        "disk full: state",
        "serves on, counting catches up",
        _STATE_DISK.fill,
        tells("ledger-disk-full"),
        _STATE_DISK.make_room,
        _STATE_DISK.prepare,
        _STATE_DISK.clear,
    ),
    Row(
        "disk full: cache",
        "serves on",
        _CACHE_DISK.fill,
        nothing_to_tell,
        _CACHE_DISK.make_room,
        _CACHE_DISK.prepare,
        _CACHE_DISK.clear,
    ),
    Row(
        "memory limit hit",
        "the kernel ends the engine, not the daemon; it is started again",
        mishaps.use_up_memory,
        tells("oom-killed"),
        mishaps.give_memory_back,
    ),
    Row(
        "descriptors of the daemon used up",
        "serves and counts on, answers when there are some again",
        mishaps.use_up_descriptors,
        no_daemon,
        mishaps.give_descriptors_back,
    ),
    Row(
        "upgrade of the package in mid-session",
        "stops in order, the session goes on through the other node",
        mishaps.upgrade,
        no_daemon,
    ),
)
"""What happens to a node itself, in the order in which it is run."""

WORLD_ROWS: Final = (
    cut("the other node", lambda stage: stage.other.host, nothing_to_tell),
    cut("the Oracle", lambda stage: stage.cluster.oracle.program.host, tells("oracle-unreachable", *_UNKNOWN)),
    cut("the chain", lambda stage: stage.cluster.chain.program.host, tells(*_NO_CHAIN)),
    oracle("500", Fault(kind="status", status=500), *_UNKNOWN),
    oracle("hangs", Fault(kind="hang"), *_UNKNOWN),
    oracle("garbage", Fault(kind="garbage"), *_UNKNOWN),
    oracle("slow", Fault(kind="delay", seconds=20.0), *_UNKNOWN),
    oracle("refuses", Fault(kind="refuse", status=403, message="Forbidden"), "oracle-refused"),
    oracle("too busy", Fault(kind="refuse", status=429, message="Too many"), "oracle-busy"),
    oracle("replies lost", Fault(kind="drop", when="after"), *_UNKNOWN),
    Row("Oracle: down", "serves on, reports later", _stop_oracle, tells(*_UNKNOWN), _start_oracle),
    Row(
        "Oracle: restarted with an old database",
        "what the old one has not booked is booked again",
        _restore_database,
        nothing_to_tell,
        prepare=_keep_database,
    ),
    chain(
        "RPC down",
        lambda admin, _: admin.fault(FaultMode.REFUSE),
        lambda admin, _: admin.clear_faults(),
        tells(*_NO_CHAIN),
    ),
    chain(
        "wrong chain id",
        lambda admin, _: admin.fault(FaultMode.WRONG_CHAIN_ID),
        lambda admin, _: admin.clear_faults(),
        tells("rpc-wrong-chain", *_NO_CHAIN),
    ),
    chain(
        "no block for 5 minutes",
        lambda admin, _: admin.set_mining(MiningMode.MANUAL),
        lambda admin, _: admin.set_mining(MiningMode.INTERVAL, 1.0),
        tells("heartbeat-pending", "rpc-behind", "transaction-stuck", "heartbeat-late"),
        AGENT_DEAD_AFTER_S,
    ),
    chain(
        "base fee x 10",
        lambda admin, _: admin.set_fees(base_fee=10 * BASE_FEE_WEI),
        lambda admin, _: admin.set_fees(base_fee=BASE_FEE_WEI),
        nothing_to_tell,
    ),
    chain(
        "reorganisation of 3 blocks",
        lambda admin, _: admin.reorganise(3),
        lambda admin, _: admin.mine(),
        nothing_to_tell,
    ),
    chain(
        "balance 0",
        lambda admin, agent: admin.set_balance(agent, 0),
        lambda admin, agent: admin.set_balance(agent, BALANCE_WEI),
        tells("balance-low", "insufficient-funds"),
    ),
    Row(
        "bootstrap peer gone for good",
        "the swarm goes on without it",
        lambda stage: stage.cluster.bootstrap.program.stop("KILL"),
        nothing_to_tell,
    ),
)
"""What happens around it; the last one is not undone."""

ROWS: Final = NODE_ROWS + WORLD_ROWS
