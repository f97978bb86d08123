"""Several nodes on one host, each with files, a wallet and a life of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Host
from tests.packaging.node import Node, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.devnet.configuration import Tables
    from tests.hosts.host import Hardware
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet

SPANS = {"a": "0:2", "b": "2:4"}


@pytest.fixture(scope="module")
def nodes(node_image: str, network: Network, hardware: Hardware, devnet: HostsDevnet) -> Iterator[dict[str, Node]]:
    """Two instances that serve one half each."""
    with Host.booted(node_image, "shared", network, hardware) as host:
        found = {name: Node(host, name) for name in SPANS}
        for place, (name, node) in enumerate(found.items()):
            own: Tables = {
                "swarm": {"listen": [f"/ip4/0.0.0.0/tcp/{31340 + place}"]},
                "metrics": {"listen": f"127.0.0.1:{9470 + place}"},
            }
            node.configure(settings(devnet, SPANS[name], own))
            node.make_wallet()
            host.systemctl("enable", "--now", node.unit)
        for node in found.values():
            node.wait_serving()
        yield found


def test_each_instance_serves_its_own_span_with_its_own_wallet(nodes: dict[str, Node]) -> None:
    spans = {name: f"{node.engine()['span_start']}:{node.engine()['span_end']}" for name, node in nodes.items()}
    agents = {node.status()["wallet"]["agent"] for node in nodes.values()}

    assert spans == SPANS
    assert len(agents) == len(SPANS)


def test_an_instance_keeps_its_files_apart(nodes: dict[str, Node]) -> None:
    host = nodes["a"].host

    for name in SPANS:
        for path in (f"/var/lib/plumise-{name}/wallet/keystore.json", f"/run/plumise-{name}/control.sock"):
            assert host.run(f"test -e {path}", check=False).status == 0, path
    assert host.run("ls /var/lib/plumise/ledger.sqlite /var/lib/plumise/wallet/keystore.json", check=False).stdout == ""


def test_an_instance_that_stops_leaves_the_other_alone(nodes: dict[str, Node]) -> None:
    stopping, staying = nodes["a"], nodes["b"]
    before = staying.host.main_pid(staying.unit), staying.engine()["pid"]

    stopping.host.systemctl("stop", stopping.unit)

    assert stopping.host.show(stopping.unit, "ActiveState", "Result") == {
        "ActiveState": "inactive",
        "Result": "success",
    }
    assert (staying.host.main_pid(staying.unit), staying.engine()["pid"]) == before
    assert staying.status()["serving"]
