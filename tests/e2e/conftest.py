"""What the suites share: images of the packages that `make deb` left, a checkpoint, a place for logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.devnet.model import make_bloom
from tests.e2e.cluster import Images
from tests.hosts.docker_engine import ROOT
from tests.hosts.fixtures import docker, host_image, images
from tests.packaging.repository import ENGINE, NODE, Repository

if TYPE_CHECKING:
    from tests.hosts.images import ImageStore

__all__ = ["docker", "host_image", "images"]

BLOCKS = 24


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
def cluster_images(images: ImageStore, host_image: str, repository: Repository) -> Images:
    """A bare host, and one with both packages."""
    engine = repository.image_with(images, host_image, ENGINE)
    return Images(bare=host_image, node=repository.image_with(images, engine, NODE))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BLOOM of 24 blocks that everybody may read."""
    directory = make_bloom(tmp_path_factory.mktemp("model") / "bloom", blocks=BLOCKS)
    for place in (directory, *directory.iterdir()):
        place.chmod(0o755 if place.is_dir() else 0o644)
    return directory


@pytest.fixture(scope="module")
def logs(request: pytest.FixtureRequest) -> Path:
    """Where the clients of a suite leave their logs."""
    directory = ROOT / "build" / "e2e" / Path(str(request.path)).stem
    directory.mkdir(parents=True, exist_ok=True)
    return directory
