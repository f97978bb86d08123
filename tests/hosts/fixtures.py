"""The harness as pytest's fixtures; a conftest.py imports those that its tests need."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.hosts.docker_engine import DockerEngine, NoDockerError
from tests.hosts.images import ImageStore
from tests.hosts.network import Network
from tests.hosts.ownership import remove_mine, remove_orphans

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def docker() -> Iterator[None]:
    """A Docker engine runs. Without one the tests are skipped, except under CI, where that is a failure."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(DockerEngine().in_use())
        except NoDockerError as error:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no Docker engine: {error}")
            pytest.skip(f"no Docker engine: {error}")
        remove_orphans()
        stack.callback(remove_mine)
        yield


@pytest.fixture(scope="session")
def images(docker: None) -> ImageStore:
    """The store of images."""
    del docker
    return ImageStore.of_user()


@pytest.fixture(scope="session")
def host_image(images: ImageStore) -> str:
    """The image of a bare host."""
    return images.host()


@pytest.fixture(scope="session")
def network(docker: None) -> Iterator[Network]:
    """A network for all hosts of a session, whose names therefore differ."""
    del docker
    with Network.made() as made:
        yield made
