"""A network of hosts: chain, Oracle, bootstrap peer with clients, and nodes with the package installed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from anyio.from_thread import start_blocking_portal
from eth_account import Account

from tests.devnet.node import key
from tests.e2e.clients import Client
from tests.e2e.nodes import STATUS_PAUSE_S, ClusterNode
from tests.e2e.services import MODEL_PLACE, Bootstrap, Chain, Oracle, services_hardware
from tests.hosts.host import Hardware, Host
from tests.hosts.network import Network
from tests.hosts.waiting import wait_until
from tests.packaging.node import host_settings
from tests.packaging.repository import ENGINE, NODE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.devnet.chain.model import AgentInfo
    from tests.hosts.images import ImageStore
    from tests.packaging.repository import Repository

PREFIX: Final = "cluster"
KEYS: Final = {"a": 0xAA, "b": 0xBB, "c": 0xAB}
"""The wallets of the nodes, by their names."""
BALANCE_WEI: Final = 10**18
SETTLED_WITHIN_S: Final = 90.0


@dataclass(frozen=True)
class Images:
    """What hosts boot.

    Attributes:
        bare: for the devnet's programs.
        node: with both packages.
    """

    bare: str
    node: str

    @classmethod
    def built(cls, store: ImageStore, repository: Repository) -> Self:
        """Those with the packages of a repository."""
        bare = store.host()
        return cls(bare, repository.image_with(store, repository.image_with(store, bare, ENGINE), NODE))


@dataclass
class Cluster:
    """The running parts; `running` makes one.

    Attributes:
        chain: with a balance for each of `KEYS`.
        peers: that lead into the swarm.
        nodes: those that were added, by name.
        oracle_up_after_s: from the start of its program to its first answer.
    """

    network: Network
    portal: BlockingPortal
    chain: Chain
    oracle: Oracle
    bootstrap: Bootstrap
    peers: tuple[str, ...]
    oracle_up_after_s: float
    nodes: dict[str, ClusterNode] = field(default_factory=dict)
    _images: Images = field(kw_only=True)
    _model: Path = field(kw_only=True)
    _logs: Path = field(kw_only=True)
    _stack: contextlib.ExitStack = field(kw_only=True)

    @classmethod
    @contextlib.contextmanager
    def running(cls, images: Images, model: Path, logs: Path) -> Iterator[Self]:
        """Everything but nodes, until the end of the block.

        Args:
            images: of the hosts.
            model: directory of the checkpoint, readable by everybody.
            logs: directory for what clients say.
        """
        with contextlib.ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            network = stack.enter_context(Network.made())
            hardware = services_hardware(model)
            hosts = {
                name: stack.enter_context(Host.booted(images.bare, name, network, hardware))
                for name in ("chain", "oracle", "bootstrap")
            }
            bootstrap = Bootstrap.started(hosts["bootstrap"])
            agents = tuple(str(Account.from_key(key(byte)).address) for byte in KEYS.values())
            chain = Chain.started(hosts["chain"], portal, agents, BALANCE_WEI)
            began = time.monotonic()
            oracle = Oracle.started(hosts["oracle"], portal, chain)
            oracle.wait_until_up()
            oracle_up_after_s = time.monotonic() - began
            chain.wait_until_up()
            yield cls(
                network,
                portal,
                chain,
                oracle,
                bootstrap,
                bootstrap.addresses(),
                oracle_up_after_s,
                _images=images,
                _model=model,
                _logs=logs,
                _stack=stack,
            )

    def add_node(
        self,
        name: str,
        blocks: str,
        extra: Mapping[str, Mapping[str, object]] | None = None,
        hardware: Hardware | None = None,
    ) -> ClusterNode:
        """Boot a host with a node of that name and configure it; it is not started.

        Args:
            name: one of `KEYS`.
            blocks: that it serves.
            extra: tables of node.toml that are merged over the usual ones.
            hardware: of the host; its mounts are added to.
        """
        wanted = hardware or Hardware()
        mounts = {**(wanted.mounts or {}), MODEL_PLACE: self._model}
        machine = Hardware(wanted.cgroups, wanted.tmpfs, mounts, wanted.capabilities)
        host = self._stack.enter_context(Host.booted(self._images.node, name, self.network, machine))
        tables = host_settings(
            blocks,
            peers=self.peers,
            prefix=PREFIX,
            oracle_url=self.oracle.url,
            rpc_url=self.chain.url,
            extra=extra,
        )
        self.nodes[name] = ClusterNode.prepared(host, KEYS[name], tables)
        return self.nodes[name]

    def node(self, name: str) -> ClusterNode:
        """The node of that name."""
        return self.nodes[name]

    def registered(self, node: ClusterNode) -> AgentInfo | None:
        """What the chain has of a node's agent."""
        return self.chain.ask(lambda chain: chain.agent(node.agent))

    def wait_settled(self, node: ClusterNode, timeout_s: float = SETTLED_WITHIN_S) -> int:
        """Wait until all that a node has served is booked; returns the tokens.

        Raises:
            TimeoutError: the two differ.
        """

        def agreed() -> tuple[int] | None:
            served = node.status().usage.total.tokens
            # Nothing served and nothing booked agree as well.
            return (served,) if served == self.oracle.booked(node.agent) else None

        settled = wait_until(f"what {node.name} served is booked", agreed, timeout_s, STATUS_PAUSE_S)
        assert settled is not None
        return settled[0]

    @contextlib.contextmanager
    def client(self, name: str = "client") -> Iterator[Client]:
        """A client of the swarm."""
        host = self.bootstrap.program.host
        with Client.swarm(host, self.portal, PREFIX, self.peers, self._logs / f"{name}.log") as client:
            yield client

    @contextlib.contextmanager
    def single_process(self) -> Iterator[Client]:
        """A client that has the whole model in its own process."""
        with Client.local(self.bootstrap.program.host, self.portal, self._logs / "single.log") as client:
            yield client
