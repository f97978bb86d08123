"""A network that joins hosts, without a way out of the machine."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testcontainers.core.network import Network as ContainerNetwork

from tests.hosts.docker_cli import docker
from tests.hosts.ownership import labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testcontainers.core.container import DockerContainer


@dataclass(frozen=True)
class Network:
    """A network; `made` makes one.

    Attributes:
        name: that Docker knows it by.
        gateway: address of this machine in it, which programs of the test may listen on.
    """

    name: str
    gateway: ipaddress.IPv4Address
    _network: ContainerNetwork

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[Network]:
        """A network of its own: hosts in it reach each other by name, and this machine, and nothing else."""
        network = ContainerNetwork(docker_network_kw={"internal": True, "labels": labels()}).create()
        try:
            yield cls(network.name, _gateway(network.name), network)
        finally:
            # Each directory of tests has the fixtures of its own, and the first that ends takes away everybody's.
            if network.name in docker("network", "ls", "--format", "{{.Name}}").split():
                network.remove()

    def plug(self, container: DockerContainer, alias: str) -> None:
        """Have a container that has not been started be in the network, reachable by `alias`."""
        container.with_network(self._network).with_network_aliases(alias)

    def connect(self, container: str, alias: str) -> None:
        """Plug a container in, reachable by `alias`."""
        docker("network", "connect", "--alias", alias, self.name, container)

    def disconnect(self, container: str) -> None:
        """Pull a container's plug: it keeps running and reaches nobody."""
        docker("network", "disconnect", "--force", self.name, container)


def _gateway(name: str) -> ipaddress.IPv4Address:
    [network] = json.loads(docker("network", "inspect", name))
    for pool in network["IPAM"]["Config"]:
        subnet = ipaddress.ip_network(pool["Subnet"])
        if isinstance(subnet, ipaddress.IPv4Network):
            # An internal network's own record may leave the gateway out; it is the first address all the same.
            return ipaddress.IPv4Address(pool["Gateway"]) if "Gateway" in pool else next(subnet.hosts())
    raise ValueError(f"network {name} has no IPv4 subnet")
