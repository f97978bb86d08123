"""The harness's own tests use it as others do."""

from tests.hosts.fixtures import docker, host_image, images, network

__all__ = ["docker", "host_image", "images", "network"]
