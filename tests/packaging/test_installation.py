"""From a bare Debian to a node that serves: what an operator does, on one host and in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Host
from tests.packaging.node import BLOCKS, MODEL, Node, settings
from tests.packaging.repository import NODE, QUIET, use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosts.host import Hardware, Result
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet
    from tests.packaging.swarm import SwarmClients

INSTALL_TIMEOUT_S = 400.0
PROMPT = (3, 1, 4, 1, 5)


@pytest.fixture(scope="module")
def node(host_image: str, network: Network, hardware: Hardware) -> Iterator[Node]:
    """A node on a host that has never seen it; nothing is installed."""
    with Host.booted(host_image, "fresh", network, hardware) as host:
        yield Node(host)


@pytest.fixture(scope="module")
def installation(node: Node) -> Result:
    """`apt install plumise-node`."""
    use(node.host)
    return node.host.run(f"{QUIET} install {NODE}", timeout_s=INSTALL_TIMEOUT_S)


def test_the_package_installs_by_name_with_its_engine_and_no_network(node: Node, installation: Result) -> None:
    assert installation.status == 0
    assert "plumised" in node.plumised("version").stdout


def test_the_installation_says_which_commands_remain(installation: Result) -> None:
    for command in ("editor /etc/plumise/node.toml", "plumised wallet create", "systemctl start plumised"):
        assert command in installation.stdout


def test_the_service_is_enabled_and_has_not_been_started(node: Node, installation: Result) -> None:
    del installation

    assert node.host.show(node.unit, "UnitFileState", "ActiveState", "Result") == {
        "UnitFileState": "enabled",
        "ActiveState": "inactive",
        "Result": "success",
    }


def test_a_start_without_a_wallet_fails_with_78_and_tells_the_remedy(node: Node, installation: Result) -> None:
    del installation

    started = node.host.systemctl("start", node.unit, check=False)

    assert started.status != 0
    assert node.host.show(node.unit, "ExecMainStatus", "NRestarts") == {"ExecMainStatus": "78", "NRestarts": "0"}
    assert any("plumised wallet create" in message for message in node.messages())


@pytest.fixture(scope="module")
def agent(node: Node, installation: Result, devnet: HostsDevnet) -> str:
    """The three commands; returns the agent's address."""
    del installation
    return node.serving(settings(devnet))


def test_after_the_three_commands_the_status_line_shows_the_serving_span(node: Node, agent: str) -> None:
    del agent

    serving = f"Serving blocks 0:{BLOCKS} of {BLOCKS} of {MODEL}"
    node.host.wait_for("the status line shows the span", lambda _: node.status_text().startswith(serving))
    assert f"blocks 0:{BLOCKS}" in node.host.systemctl("status", node.unit).stdout


def test_the_journal_has_structured_fields(node: Node, agent: str) -> None:
    del agent

    events = {
        record.fields["PLUMISE_EVENT"] for record in node.host.journal(node.unit) if "PLUMISE_EVENT" in record.fields
    }
    reasons = {
        record.fields["PLUMISE_REASON"] for record in node.host.journal(node.unit) if "PLUMISE_REASON" in record.fields
    }

    assert events
    assert "wallet-missing" in reasons


def test_nothing_of_the_node_is_readable_by_others(node: Node, agent: str) -> None:
    del agent

    listed = node.host.run("find /etc/plumise /var/lib/plumise /var/cache/plumise /run/plumise -perm /007 ! -type l")

    assert listed.stdout == ""


def test_it_serves_a_client_on_another_host_and_the_oracle_books_that(
    node: Node, agent: str, clients: SwarmClients, devnet: HostsDevnet
) -> None:
    with clients.local() as local, clients.swarm(node.peers()) as client:
        answer = client.generate(PROMPT, 16)

        assert answer.ids == local.generate(PROMPT, 16).ids
    assert answer.sent == node.tokens() > 0
    devnet.wait_booked(agent, answer.sent)


def test_the_unit_is_confined_as_promised(node: Node, agent: str) -> None:
    del agent

    node.host.run(f"systemd-analyze security {node.unit} --threshold=20 --no-pager")
    assert node.host.run(f"systemd-analyze verify --man=no {node.unit}").stderr == ""
