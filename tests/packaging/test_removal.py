"""What remove keeps, what purge leaves, and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Host
from tests.packaging.node import Node, settings
from tests.packaging.repository import ENGINE, NODE, QUIET, use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosts.host import Hardware, Result
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet

TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def node(node_image: str, network: Network, hardware: Hardware) -> Iterator[Node]:
    with Host.booted(node_image, "leaver", network, hardware) as host:
        use(host)
        yield Node(host)


@pytest.fixture(scope="module")
def agent(node: Node, devnet: HostsDevnet) -> str:
    """A node that serves, with a drop-in, and a second one that has a wallet."""
    node.host.write(f"/etc/systemd/system/{node.unit}.d/local.conf", "[Service]\nNice=1\n")
    second = Node(node.host, "second")
    second.configure(settings(devnet))
    second.make_wallet()
    return node.serving(settings(devnet))


@pytest.fixture(scope="module")
def removal(node: Node, agent: str) -> Result:
    """`apt remove` of a running node."""
    del agent
    return node.host.run(f"{QUIET} remove {NODE}", timeout_s=TIMEOUT_S)


def test_remove_stops_the_node_and_leaves_no_process(node: Node, removal: Result) -> None:
    del removal

    assert node.host.run("pgrep --list-full --uid plumise", check=False).stdout == ""
    assert node.host.run("systemctl list-units --plain --no-legend 'plumised*'").stdout == ""


def test_remove_keeps_configuration_and_state(node: Node, removal: Result) -> None:
    del removal

    for path in (node.config_file, f"{node.state_dir}/wallet/keystore.json", f"{node.state_dir}/ledger.sqlite"):
        assert node.host.run(f"test -s {path}", check=False).status == 0, path


@pytest.fixture(scope="module")
def reinstallation(node: Node, removal: Result) -> Result:
    del removal
    return node.host.run(f"{QUIET} install {NODE}", timeout_s=TIMEOUT_S)


def test_a_reinstalled_node_serves_again_with_its_wallet(node: Node, agent: str, reinstallation: Result) -> None:
    del reinstallation

    node.wait_serving()
    assert node.status()["wallet"]["agent"] == agent


@pytest.fixture(scope="module")
def purge(node: Node, reinstallation: Result) -> Result:
    """`apt purge` of both packages, with the node running."""
    del reinstallation
    return node.host.run(f"{QUIET} purge {NODE} {ENGINE}", timeout_s=TIMEOUT_S)


def test_purge_leaves_nothing_but_a_private_backup_of_the_wallets(node: Node, purge: Result) -> None:
    left = node.host.run(
        "find / /run /tmp /var/tmp /dev/shm -xdev"
        r" \( -iname '*plumise*' -o -nouser -o -nogroup \) -printf '%p %m %u\n' | sort --unique"
    ).stdout.splitlines()

    assert len(left) == 1, left
    backup, mode, owner = left[0].split()
    assert backup.startswith("/var/backups/")
    assert (mode, owner) == ("600", "root")
    assert backup in purge.stdout + purge.stderr
    assert node.host.run("getent passwd plumise; getent group plumise", check=False).stdout == ""


def test_the_backup_brings_the_wallet_back(node: Node, agent: str, devnet: HostsDevnet, purge: Result) -> None:
    del purge
    node.host.run(f"{QUIET} install {NODE}", timeout_s=TIMEOUT_S)

    node.host.run("tar -C / -xpf /var/backups/plumise-*")
    node.configure(settings(devnet))
    node.start()

    node.wait_serving()
    assert node.status()["wallet"]["agent"] == agent
