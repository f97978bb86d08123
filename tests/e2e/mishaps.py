"""What can befall the host of a node, as deeds of the fault matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.hosts.memory import release, squeeze
from tests.packaging.node import PORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.faults import Stage

    Deed = Callable[[Stage], None]

USER: Final = "plumise"
NEXT_VERSION: Final = "/srv/next"
"""Where the nodes have a newer plumise-node."""
STANDARD_STREAMS: Final = 3
"""A limit of descriptors below what a daemon has, so that whatever it closes meanwhile it can open none."""


def restart_with_clock(offset: str) -> Deed:
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    settings = f"LD_PRELOAD={library} FAKETIME={offset} DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_RESET=1"
    drop_in = "/run/systemd/system/plumised.service.d/clock.conf"

    def restart(stage: Stage) -> None:
        stage.victim.host.write(drop_in, f"[Service]\nEnvironment={settings}\n")
        stage.victim.host.systemctl("daemon-reload")
        stage.victim.host.systemctl("restart", stage.victim.node.unit)

    return restart


def restart_with_true_clock(stage: Stage) -> None:
    stage.victim.host.run("rm -rf /run/systemd/system/plumised.service.d")
    stage.victim.host.systemctl("daemon-reload")
    stage.victim.host.systemctl("restart", stage.victim.node.unit)


def take_port(stage: Stage) -> None:
    host, unit = stage.victim.host, stage.victim.node.unit
    host.systemctl("stop", unit)
    host.run(f"systemd-run --quiet --unit=squatter python3 -m http.server {PORT}")
    host.systemctl("start", unit)


def free_port(stage: Stage) -> None:
    stage.victim.host.systemctl("stop", "squatter")


@dataclass(frozen=True)
class SmallDisk:
    """A directory of the package on a disk of its own, while it is prepared."""

    place: str

    def prepare(self, stage: Stage) -> None:
        stage.victim.stop()
        stage.victim.host.run(
            f"cp -a {self.place} /root/kept && mount -t tmpfs -o size=64m,mode=0750 small {self.place}"
            f" && cp -a /root/kept/. {self.place}/ && chown --reference=/root/kept {self.place}"
        )
        stage.victim.start()
        stage.victim.wait_serving()

    def fill(self, stage: Stage) -> None:
        stage.victim.host.run(f"dd if=/dev/zero of={self.place}/filler bs=4k status=none", check=False)

    def make_room(self, stage: Stage) -> None:
        stage.victim.host.run(f"rm {self.place}/filler")

    def clear(self, stage: Stage) -> None:
        place = self.place
        stage.victim.stop()
        stage.victim.host.run(
            f"rm -rf /root/kept && cp -a {place} /root/kept && umount {place} && cp -a /root/kept/. {place}/"
            " && rm -rf /root/kept"
        )
        stage.victim.start()
        stage.victim.wait_serving()


def use_up_memory(stage: Stage) -> None:
    squeeze(stage.victim.host, stage.victim.node.unit)


def give_memory_back(stage: Stage) -> None:
    release(stage.victim.host, stage.victim.node.unit)


def use_up_descriptors(stage: Stage) -> None:
    _limit_descriptors(stage, STANDARD_STREAMS)


def give_descriptors_back(stage: Stage) -> None:
    host, unit = stage.victim.host, stage.victim.node.unit
    most = host.run(f"awk '/Max open files/ {{print $5}}' /proc/{host.main_pid(unit)}/limits").stdout.strip()
    _limit_descriptors(stage, most)


def _limit_descriptors(stage: Stage, limit: int | str) -> None:
    pid = stage.victim.host.main_pid(stage.victim.node.unit)
    # Who owns a process may do so without a capability, which containers seldom have.
    stage.victim.host.run(f"prlimit --pid {pid} --nofile={limit}:", user=USER)


def upgrade(stage: Stage) -> None:
    # The daemon runs on beside the unpacked files until the package is configured.
    stage.victim.host.run(f"dpkg --unpack --force-confold {NEXT_VERSION}/plumise-node_*.deb", timeout_s=180.0)
    stage.victim.host.run("systemd-run --quiet --unit=upgrade dpkg --configure --force-confold plumise-node")
