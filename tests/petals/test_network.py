"""At start an engine turns to nobody but the daemon's socket, its own p2pd and the swarm."""

from __future__ import annotations

import json
import signal
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plumised.ipc.messages import Role
from tests.petals.engine_process import EngineProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.petals.engine_process import Process


@dataclass(frozen=True)
class Event:
    """One line of tests.petals.audited_engine."""

    event: str
    pid: int
    family: int
    what: str


def events(engine: EngineProcess) -> list[Event]:
    lines = (engine.directory / "events").read_text().splitlines()
    return [Event(**json.loads(line)) for line in lines]


def p2pds(engine: EngineProcess) -> list[Process]:
    return [process for process in engine.processes() if process.name == "p2pd"]


def remote_hosts(pid: int) -> set[str]:
    """The hosts to which a process has TCP connections or connected UDP sockets."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    hosts = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            host, port = fields[2].split(":")
            if fields[9] in inodes and int(port, 16):
                # Each group of four bytes is in the machine's order.
                raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
                hosts.add(str(ip_address(raw)))
    return hosts


@pytest.fixture(scope="module", params=["new swarm", "joining"])
def audited(
    request: pytest.FixtureRequest, bloom: Path, served: EngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EngineProcess]:
    """An engine that has started offline, has measured its throughput, and serves."""
    log = tmp_path_factory.mktemp("audit") / "events"
    swarm: dict[str, Any] = {"initial_peers": served.online().addresses} if request.param == "joining" else {}
    with EngineProcess(
        bloom,
        arguments=("-m", "tests.petals.audited_engine", str(log)),
        prefix="audited",
        first_block=0,
        last_block=3,
        throughput=None,
        bandwidth_mbps=None,
        **swarm,
    ) as engine:
        (engine.directory / "events").symlink_to(log)
        engine.online()
        engine.wait(lambda: engine.recorder.beats(Role.MAIN)[-1].p2pd > 1, "p2pd has answered twice")
        yield engine


def test_no_name_is_looked_up_and_no_url_is_opened(audited: EngineProcess) -> None:
    names = {
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "urllib.Request",
        "http.client.connect",
    }
    assert [event for event in events(audited) if event.event in names] == []


def test_only_unix_sockets_of_its_own_are_connected(audited: EngineProcess) -> None:
    connections = [event for event in events(audited) if event.event in {"socket.connect", "socket.sendto"}]
    assert {event.family for event in connections} == {socket.AF_UNIX}
    assert any(audited.job.socket in event.what for event in connections)
    assert all(str(audited.directory) in event.what for event in connections)


def test_every_process_of_the_engine_is_audited(audited: EngineProcess) -> None:
    pids = {hello.pid for hello in audited.recorder.hellos()}
    assert pids <= {event.pid for event in events(audited) if event.event == "socket.connect"}


def test_no_program_is_started_but_p2pd(audited: EngineProcess) -> None:
    started = {Path(event.what).name for event in events(audited) if event.event in {"subprocess.Popen", "os.system"}}
    # torch asks lscpu what the processor can do.
    assert started <= {"p2pd", "setpriv", "lscpu"}
    main = audited.process("plumise-engine").arguments
    others = [process for process in audited.processes() if process.arguments[:3] != main[:3]]
    assert {Path(process.arguments[0]).name for process in others} <= {"p2pd", "torch_shm_manager"}


def test_p2pd_asks_no_router_for_a_port_and_nobody_for_a_relay(audited: EngineProcess) -> None:
    assert p2pds(audited)
    for p2pd in p2pds(audited):
        assert {"-natPortMap=0", "-autoRelay=0", "-relay=0"} <= set(p2pd.arguments)
        bootstrap = [argument for argument in p2pd.arguments if argument.startswith("-bootstrapPeers=")]
        peers = ",".join(audited.job.initial_peers)
        assert bootstrap == ([f"-bootstrapPeers={peers}"] if peers else [])
        assert f"-b={int(bool(peers))}" in p2pd.arguments


def test_p2pd_is_connected_to_nothing_but_the_swarm(audited: EngineProcess) -> None:
    hosts = set().union(*(remote_hosts(p2pd.pid) for p2pd in p2pds(audited)))
    assert hosts <= {"127.0.0.1"}
    assert bool(hosts) == bool(audited.job.initial_peers)


def test_a_stop_turns_to_nobody_either(audited: EngineProcess) -> None:
    # The last test of this engine.
    audited.signal(signal.SIGINT)
    assert audited.ended() == 0
    assert {event.family for event in events(audited) if event.event == "socket.connect"} == {socket.AF_UNIX}
