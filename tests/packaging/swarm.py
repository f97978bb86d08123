"""A Petals client on a host, which has the engine's package and this checkout's client program."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.devnet.client import Generation, LanguageModelClient, Request
from tests.hosts.docker_engine import ROOT
from tests.hosts.host import Hardware, Host
from tests.packaging.node import MODEL, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.hosts.network import Network

_CHECKOUT = "/srv/checkout"
_PYTHON = "/usr/lib/plumise-engine/bin/python"
_BOOTSTRAP = "/run/bootstrap.addresses"
_START_TIMEOUT_S = 120.0
_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class SwarmClients:
    """A host that clients run on."""

    host: Host
    _portal: BlockingPortal
    _logs: Path

    @classmethod
    @contextlib.contextmanager
    def booted(
        cls, image: str, network: Network, model: Path, portal: BlockingPortal, logs: Path
    ) -> Iterator[SwarmClients]:
        """The host is up until the end of the block."""
        mounts: Mapping[str, Path] = {MODEL: model, f"{_CHECKOUT}/tests": ROOT / "tests"}
        with Host.booted(image, "client", network, Hardware(mounts=mounts)) as host:
            yield cls(host, portal, logs)

    def bootstrap(self) -> list[str]:
        """Addresses of a peer that serves nothing: a swarm whose only node goes away is found again through it."""
        if self.host.run(f"test -e {_BOOTSTRAP}", check=False).status != 0:
            program = f"{_PYTHON} -m tests.devnet.bootstrap {_BOOTSTRAP} /ip4/0.0.0.0/tcp/31300"
            self.host.run(f"systemd-run --unit=bootstrap --working-directory={_CHECKOUT} {program}")
        addresses = self.host.wait_for(
            "the bootstrap peer is up", lambda host: host.run(f"cat {_BOOTSTRAP}", check=False).stdout, _START_TIMEOUT_S
        )
        return [address for address in addresses.split() if "/127.0.0.1/" not in address]

    @contextlib.contextmanager
    def swarm(self, peers: Sequence[str]) -> Iterator[SwarmClient]:
        """A client that generates through the nodes at these addresses."""
        with self._client("swarm", MODEL, PREFIX, *peers) as client:
            yield client

    @contextlib.contextmanager
    def local(self) -> Iterator[SwarmClient]:
        """A client that computes everything itself: what the swarm should say."""
        with self._client("local", MODEL) as client:
            yield client

    @contextlib.contextmanager
    def _client(self, mode: str, *arguments: str) -> Iterator[SwarmClient]:
        python = self.host.argv("env", "-C", _CHECKOUT, _PYTHON)
        program = LanguageModelClient([mode, *arguments], log=self._logs / f"{mode}.log", python=python)
        with self._portal.wrap_async_context_manager(program) as client:
            yield SwarmClient(client, self._portal)


@dataclass(frozen=True)
class SwarmClient:
    """A client that is ready; one request after the other."""

    _client: LanguageModelClient
    _portal: BlockingPortal

    def generate(self, ids: tuple[int, ...], tokens: int) -> Generation:
        """Generate greedily, over whatever happens to the nodes meanwhile."""

        async def generation() -> Generation:
            return await self._client.generate(Request(tokens, ids=ids), timeout_s=_TIMEOUT_S)

        return self._portal.call(generation)
