"""What the tests of the packages share: the repository, hosts' images, the devnet and a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from tests.devnet.model import make_bloom, open_to_all
from tests.hosts.docker_engine import ROOT
from tests.hosts.fixtures import docker, host_image, images, network
from tests.hosts.host import Hardware
from tests.packaging.devnet import HostsDevnet
from tests.packaging.node import BLOCKS, MODEL
from tests.packaging.repository import ENGINE, NODE, PLACE, Repository
from tests.packaging.swarm import SwarmClients

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.from_thread import BlockingPortal

    from tests.hosts.images import ImageStore
    from tests.hosts.network import Network

__all__ = ["docker", "host_image", "images", "network"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--apt-repository",
        type=Path,
        default=ROOT / "dist" / "apt",
        help="the packages to test; by default those of make deb",
    )


@pytest.fixture(scope="session")
def repository(request: pytest.FixtureRequest) -> Repository:
    """The packages to test. Without them the tests are skipped, except under CI, where that is a failure."""
    directory: Path = request.config.getoption("--apt-repository")
    if not (directory / "Packages").exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{directory} has no packages; run make deb")
        pytest.skip(f"{directory} has no packages; run make deb")
    return Repository(directory.resolve())


@pytest.fixture(scope="session")
def engine_image(images: ImageStore, host_image: str, repository: Repository) -> str:
    """A host with the engine's package, which takes long to install."""
    return repository.image_with(images, host_image, ENGINE)


@pytest.fixture(scope="session")
def node_image(images: ImageStore, engine_image: str, repository: Repository) -> str:
    """A host with both packages, unconfigured."""
    return repository.image_with(images, engine_image, NODE)


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop beside the tests, which are not asynchronous."""
    with start_blocking_portal() as started:
        yield started


@pytest.fixture(scope="session")
def devnet(network: Network, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsDevnet]:
    """The devnet, for all hosts of a session."""
    with HostsDevnet.running(network, portal, tmp_path_factory.mktemp("devnet")) as running:
        yield running


@pytest.fixture(scope="session")
def clients(
    engine_image: str, network: Network, model: Path, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SwarmClients]:
    """A host for Petals clients."""
    with SwarmClients.booted(engine_image, network, model, portal, tmp_path_factory.mktemp("clients")) as booted:
        yield booted


@pytest.fixture(scope="session")
def hardware(repository: Repository, model: Path) -> Hardware:
    """What a host needs for a node: the repository and the checkpoint."""
    return Hardware(mounts={PLACE: repository.directory, MODEL: model})


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that everybody may read."""
    return open_to_all(make_bloom(tmp_path_factory.mktemp("model") / "bloom", blocks=BLOCKS))
