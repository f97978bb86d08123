"""A node whose host runs out of memory or disk."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Host
from tests.hosts.memory import squeeze
from tests.packaging.node import BLOCKS, Node, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosts.host import Hardware
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet
    from tests.packaging.swarm import SwarmClients

STATE = "/var/lib/plumise"
STATE_SIZE = "16m"
NOTICED_S = 120.0
PROMPT = (1, 6, 1, 8)


def test_an_engine_that_the_memory_limit_ends_is_named_and_the_daemon_lives(
    node_image: str, network: Network, hardware: Hardware, devnet: HostsDevnet
) -> None:
    with Host.booted(node_image, "limited", network, dataclasses.replace(hardware, cgroups="controllers")) as host:
        node = Node(host)
        node.serving(settings(devnet))
        daemon = host.main_pid(node.unit)
        squeeze(host, node.unit)

        failure = host.wait_for("the cause is in the status", lambda _: node.engine()["failure"], timeout_s=NOTICED_S)

        assert failure["code"] == "oom-killed"
        assert host.main_pid(node.unit) == daemon
        assert any("oom-killed" in message for message in node.messages())


@pytest.fixture(scope="module")
def node(node_image: str, network: Network, hardware: Hardware, devnet: HostsDevnet) -> Iterator[Node]:
    """A node that serves and has a small disk for its state."""
    small = dataclasses.replace(hardware, tmpfs={STATE: f"size={STATE_SIZE}"})
    with Host.booted(node_image, "cramped", network, small) as host:
        node = Node(host)
        node.serving(settings(devnet))
        yield node


def test_a_full_disk_is_named_stops_nobody_and_costs_no_count(
    node: Node, clients: SwarmClients, devnet: HostsDevnet
) -> None:
    agent = node.status()["wallet"]["agent"]
    with clients.swarm(node.peers()) as client:
        whole = client.generate(PROMPT, 8)
        node.host.run(f"dd if=/dev/zero of={STATE}/rubbish bs=64k", check=False)

        cramped = client.generate(PROMPT, 8)

        assert cramped.ids == whole.ids
        node.host.wait_for(
            "the full disk is in the status", lambda _: "ledger-disk-full" in node.problems(), timeout_s=NOTICED_S
        )
        node.host.run(f"rm {STATE}/rubbish")
        node.host.wait_for(
            "the status is clean again", lambda _: "ledger-disk-full" not in node.problems(), timeout_s=NOTICED_S
        )
        node.host.wait_for("all is counted", lambda _: node.tokens() == cramped.sent, timeout_s=NOTICED_S)
    devnet.wait_booked(agent, cramped.sent)


def test_a_state_that_cannot_be_written_is_refused_with_78_at_the_start(node: Node) -> None:
    node.host.systemctl("stop", node.unit)
    served = node.host.run(f"sha256sum {STATE}/ledger.sqlite").stdout
    node.host.run(f"mount -o remount,ro {STATE}")

    started = node.host.systemctl("start", node.unit, check=False)

    assert started.status != 0
    assert node.host.show(node.unit, "ExecMainStatus") == {"ExecMainStatus": "78"}
    assert any(STATE in message for message in node.messages())
    node.host.run(f"mount -o remount,rw {STATE}")
    assert node.host.run(f"sha256sum {STATE}/ledger.sqlite").stdout == served
    node.start()
    node.wait_serving()
    assert node.engine()["span_end"] == BLOCKS
