"""What Debian's own infrastructure would run on the installed package."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tests.hosts.docker_engine import ROOT
from tests.hosts.host import Host

if TYPE_CHECKING:
    from tests.hosts.host import Hardware
    from tests.hosts.network import Network

TIMEOUT_S = 300.0


def test_the_autopkgtest_passes_on_the_installed_package(node_image: str, network: Network, hardware: Hardware) -> None:
    mounts = {**(hardware.mounts or {}), "/srv/debian": ROOT / "debian"}
    with Host.booted(node_image, "debian", network, dataclasses.replace(hardware, mounts=mounts)) as host:
        host.run("sh /srv/debian/tests/installed-package", timeout_s=TIMEOUT_S)
