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
    from concurrent.futures import Future
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.hosts.network import Network

_CHECKOUT = "/srv/checkout"
_PYTHON = "/usr/lib/plumise-engine/bin/python"
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
        """Generate greedily."""
        return self.begin(ids, tokens).result()

    def begin(self, ids: tuple[int, ...], tokens: int) -> Future[Generation]:
        """Begin to."""

        async def generation() -> Generation:
            return await self._client.generate(Request(tokens, ids=ids), timeout_s=_TIMEOUT_S)

        return self._portal.start_task_soon(generation)
