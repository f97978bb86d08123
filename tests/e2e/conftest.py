"""What the suites share: images of the packages that `make deb` left, a checkpoint, a place for logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.devnet.model import make_bloom, open_to_all
from tests.e2e import outcomes
from tests.e2e.cluster import Images
from tests.e2e.figures import DIRECTORY
from tests.hosts.docker_engine import ROOT
from tests.hosts.fixtures import docker, images
from tests.packaging.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.clients import Client
    from tests.e2e.cluster import Cluster
    from tests.hosts.images import ImageStore

__all__ = ["docker", "images"]

BLOCKS = 24


def pytest_sessionstart(session: pytest.Session) -> None:
    """What the last run found is not what this one finds."""
    if not hasattr(session.config, "workerinput"):
        outcomes.forget()


@pytest.fixture(scope="session")
def repository() -> Repository:
    """The packages to test. Without them the tests are skipped, except under CI, where that is a failure."""
    directory = ROOT / "dist" / "apt"
    if not (directory / "Packages").exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{directory} has no packages; run make deb")
        pytest.skip(f"{directory} has no packages; run make deb")
    return Repository(directory)


@pytest.fixture(scope="session")
def cluster_images(images: ImageStore, repository: Repository) -> Images:
    """A bare host, and one with both packages."""
    return Images.built(images, repository)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BLOOM of 24 blocks that everybody may read."""
    return open_to_all(make_bloom(tmp_path_factory.mktemp("model") / "bloom", blocks=BLOCKS))


@pytest.fixture(scope="module")
def logs(request: pytest.FixtureRequest, worker_id: str) -> Path:
    """Where the clients of a suite leave their logs."""
    directory = DIRECTORY / Path(str(request.path)).stem / worker_id
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[Client]:
    """A client of the swarm of the suite's `cluster`."""
    with cluster.client() as running:
        yield running
