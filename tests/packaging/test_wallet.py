"""The wallet of the packaged service: who owns its files, and how its password reaches the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Host
from tests.packaging.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.devnet.configuration import Tables
    from tests.hosts.host import Hardware
    from tests.hosts.network import Network

OLD, NEW = "correct horse battery staple", "another one"
PASSWORD = "/etc/plumise/node.password"
NOBODY_ANSWERS: Tables = {
    "engine": {"offline": True},
    "oracle": {"url": "http://127.0.0.1:9"},
    "chain": {"rpc_urls": ["http://127.0.0.1:9"]},
}
"""A daemon starts without engine, Oracle and chain; the wallet is what it cannot do without."""


@pytest.fixture(scope="module")
def host(node_image: str, network: Network, hardware: Hardware) -> Iterator[Host]:
    with Host.booted(node_image, "safe", network, hardware) as booted:
        for name, text in (("old", OLD), ("new", NEW)):
            booted.write(f"/root/{name}", text + "\n", mode="0600")
        yield booted


@pytest.fixture
def node(host: Host) -> Node:
    """A node that has just been installed, without any wallet."""
    host.systemctl("stop", "plumised.service")
    host.systemctl("reset-failed", check=False)
    host.run("rm -rf /var/lib/plumise/* /etc/plumise/*.password* /etc/systemd/system/plumised.service.d")
    host.systemctl("daemon-reload")
    installed = Node(host)
    installed.configure(NOBODY_ANSWERS)
    return installed


@pytest.fixture
def agent(node: Node) -> str:
    """The address of a wallet that root has made with the old password."""
    return node.plumised("wallet create --password-file /root/old").stdout.strip()


def owner_and_mode(node: Node, path: str) -> str:
    return node.host.run(f"stat --format '%U %a' {path}").stdout.strip()


def test_what_root_makes_is_the_services_but_for_the_password(node: Node, agent: str) -> None:
    assert agent.startswith("0x")
    assert owner_and_mode(node, "/var/lib/plumise/wallet") == "plumise 700"
    assert owner_and_mode(node, "/var/lib/plumise/wallet/keystore.json") == "plumise 600"
    assert owner_and_mode(node, PASSWORD) == "root 600"


def test_the_service_starts_with_it(node: Node, agent: str) -> None:
    node.start()

    assert node.status()["wallet"]["agent"] == agent


def test_the_service_starts_after_the_password_was_changed(node: Node, agent: str) -> None:
    node.plumised("wallet change-password --password-file /root/old --new-password-file /root/new")
    node.start()

    assert node.status()["wallet"]["agent"] == agent
    assert node.host.read(PASSWORD) == f"{NEW}\n"


def test_the_service_starts_after_a_change_that_was_cut_off_and_says_so(node: Node, agent: str) -> None:
    node.plumised("wallet change-password --password-file /root/old --new-password-file /root/new")
    node.host.run(f"mv {PASSWORD} {PASSWORD}.next && cp -p /root/old {PASSWORD}")

    node.start()

    assert node.status()["wallet"]["agent"] == agent
    assert any("cut off" in message for message in node.messages())
    node.plumised("wallet store-password --password-file /root/new")
    assert node.host.run("ls /etc/plumise/*.password*").stdout.split() == [PASSWORD]


def test_without_a_stored_password_the_start_fails_with_78_and_the_remedy_helps(node: Node) -> None:
    created = node.plumised("wallet create --no-store-password --password-file /root/old")
    assert "store-password" in created.stderr

    started = node.host.systemctl("start", node.unit, check=False)

    assert started.status != 0
    assert node.host.show(node.unit, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
    assert any("plumised wallet store-password" in message for message in node.messages())
    node.plumised("wallet store-password --password-file /root/old")
    node.start()


def test_the_password_may_be_encrypted_for_the_machine_alone(node: Node) -> None:
    agent = node.plumised("wallet create --no-store-password --password-file /root/old").stdout.strip()
    drop_in = "/etc/systemd/system/plumised.service.d/password.conf"
    node.host.run(
        f"umask 077; mkdir -p $(dirname {drop_in}); (echo '[Service]';"
        f" systemd-creds encrypt --name=wallet-password --pretty /root/old -) > {drop_in}"
    )
    node.host.systemctl("daemon-reload")

    node.start()

    assert node.status()["wallet"]["agent"] == agent


def test_a_wallet_is_made_before_the_services_directory_is(node: Node) -> None:
    instance = Node(node.host, "early")
    instance.configure(NOBODY_ANSWERS | {"metrics": {"listen": "off"}})

    instance.plumised("wallet create --password-file /root/old")

    assert owner_and_mode(node, instance.state_dir) == "plumise 750"
    instance.start()
    node.host.systemctl("stop", instance.unit)


def test_an_instance_without_a_file_fails_with_78_and_names_the_file(node: Node) -> None:
    started = node.host.systemctl("start", "plumised@nowhere.service", check=False)

    assert started.status != 0
    assert node.host.show("plumised@nowhere.service", "ExecMainStatus") == {"ExecMainStatus": "78"}
    assert any("/etc/plumise/nowhere.toml" in message for message in Node(node.host, "nowhere").messages())
