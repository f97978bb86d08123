"""An unattended upgrade under load, and a daemon that is older than its ledger."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.devnet.configuration import toml
from tests.hosts.host import Host
from tests.packaging.node import Node, settings
from tests.packaging.repository import NODE, QUIET, renamed, use

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.devnet.client import Generation
    from tests.hosts.host import Hardware
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet
    from tests.packaging.repository import Repository
    from tests.packaging.swarm import SwarmClients

OLD = "0.0.1"
OLD_PLACE = "/srv/old"
TIMEOUT_S = 300.0
PROMPT = (2, 7, 1, 8)
TOKENS = 48
UNATTENDED = f"{QUIET} -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold upgrade"
"""As unattended-upgrades runs it."""
DROP_IN = "/etc/systemd/system/plumised.service.d/local.conf"
FRAGMENT = "/etc/plumise/node.toml.d/50-local.toml"
LEDGER = "/var/lib/plumise/ledger.sqlite"


@pytest.fixture(scope="module")
def node(
    engine_image: str,
    network: Network,
    hardware: Hardware,
    repository: Repository,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    """A host with an older version, whose configuration file was another one."""
    old = tmp_path_factory.mktemp("old")
    package = renamed(repository.package(NODE), OLD, old, {"etc/plumise/node.toml": "# Of an older version.\n"})
    mounts: dict[str, Path] = {**(hardware.mounts or {}), OLD_PLACE: old}
    with Host.booted(engine_image, "upgrader", network, dataclasses.replace(hardware, mounts=mounts)) as host:
        host.run(f"dpkg --install {OLD_PLACE}/{package.name}", timeout_s=TIMEOUT_S)
        yield Node(host)


@dataclasses.dataclass(frozen=True)
class Upgrade:
    """What was there before, and what came of the sessions that ran meanwhile."""

    agent: str
    pid: int
    files: dict[str, str]
    during: tuple[Generation, ...]
    expected: tuple[int, ...]


@pytest.fixture(scope="module")
def upgrade(node: Node, devnet: HostsDevnet, clients: SwarmClients) -> Upgrade:
    """The upgrade, with the operator's edits in place and a client that never stops asking."""
    node.host.write(DROP_IN, "[Service]\nNice=1\n")
    agent = node.serving(settings(devnet, peers=clients.bootstrap()))
    node.host.write(FRAGMENT, toml({"log": {"level": "debug"}}), mode="0640", owner="root:plumise")
    files = {path: node.host.read(path) for path in (DROP_IN, FRAGMENT, node.config_file)}
    pid = node.host.main_pid(node.unit)
    use(node.host)
    with clients.local() as local:
        expected = local.generate(PROMPT, TOKENS).ids
    with clients.swarm(clients.bootstrap()) as client, ThreadPoolExecutor() as pool:
        during = [client.generate(PROMPT, TOKENS)]
        upgrading = pool.submit(node.host.run, UNATTENDED, timeout_s=TIMEOUT_S)
        while not upgrading.done():
            during.append(client.generate(PROMPT, TOKENS))
        upgrading.result()
        node.wait_serving()
        during.append(client.generate(PROMPT, TOKENS))
    return Upgrade(agent, pid, files, tuple(during), expected)


def test_the_upgrade_restarts_the_node_in_the_new_version(node: Node, upgrade: Upgrade, repository: Repository) -> None:
    assert node.host.run(f"dpkg-query --show --showformat '${{Version}}' {NODE}").stdout == (
        repository.package(NODE).version
    )
    assert node.host.main_pid(node.unit) not in (0, upgrade.pid)


def test_the_upgrade_keeps_every_line_that_the_operator_wrote(node: Node, upgrade: Upgrade) -> None:
    assert {path: node.host.read(path) for path in upgrade.files} == upgrade.files
    assert node.host.show(node.unit, "Nice") == {"Nice": "1"}


def test_sessions_get_the_same_tokens_before_during_and_after_the_upgrade(upgrade: Upgrade) -> None:
    assert [generation.ids for generation in upgrade.during] == [upgrade.expected] * len(upgrade.during)


def test_what_was_served_before_and_after_the_upgrade_is_booked_once(
    node: Node, upgrade: Upgrade, devnet: HostsDevnet
) -> None:
    last = upgrade.during[-1]
    served = node.tokens()

    assert last.received <= served <= last.sent
    devnet.wait_booked(upgrade.agent, served)


def test_a_daemon_that_is_older_than_its_ledger_refuses_and_loses_nothing(node: Node, upgrade: Upgrade) -> None:
    del upgrade
    served = node.tokens()
    node.host.systemctl("stop", node.unit)
    version = _pragma(node, "user_version")
    _pragma(node, f"user_version = {int(version) + 1}")
    before = node.host.run(f"sha256sum {LEDGER}").stdout

    started = node.host.systemctl("start", node.unit, check=False)

    assert started.status != 0
    assert node.host.show(node.unit, "ExecMainStatus") == {"ExecMainStatus": "78"}
    assert any("ledger-too-new" in message for message in node.messages())
    assert node.host.run(f"sha256sum {LEDGER}").stdout == before
    _pragma(node, f"user_version = {version}")
    node.start()
    assert node.tokens() == served


def _pragma(node: Node, text: str) -> str:
    """Run a pragma on the ledger, as the user whose it is."""
    program = f"import sqlite3; c = sqlite3.connect('{LEDGER}'); print(*(c.execute('PRAGMA {text}').fetchone() or ()))"
    return node.host.run(f'runuser -u plumise -- python3 -c "{program}"').stdout.strip()
