"""One host: a container with systemd as PID 1, and what one does on a machine."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, Self

from testcontainers.core.container import DockerContainer

from tests.hosts.docker_cli import docker
from tests.hosts.journal import Record, records
from tests.hosts.ownership import labels
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.hosts.network import Network
    from tests.hosts.waiting import T

Cgroups = Literal["unified", "controllers"]

_BOOT_TIMEOUT_S = 60.0
_DOCKER_TIMEOUT_S = 120.0
_COPY_TIMEOUT_S = 120.0
_COMMIT_TIMEOUT_S = 300.0
_KILL_AFTER_S = 5
_TIMED_OUT = (124, 137)


class HostError(Exception):
    """A command on a host failed or took too long; the message has its output."""


@dataclass(frozen=True)
class Result:
    """What became of a command."""

    command: str
    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"$ {self.command}\n[{self.status}]\n{self.stdout[-4000:]}\n{self.stderr[-4000:]}"


@dataclass(frozen=True)
class Hardware:
    """What a host is made of.

    Attributes:
        cgroups: `controllers` where MemoryMax= or CPUQuota= shall work; see image/init.
        tmpfs: mount points with their options, for small or read-only disks.
        mounts: directories of this machine by the place where the host sees them, read-only.
        capabilities: beyond those that systemd needs.
    """

    cgroups: Cgroups = "unified"
    tmpfs: Mapping[str, str] | None = None
    mounts: Mapping[str, Path] | None = None
    capabilities: Sequence[str] = ()


@dataclass(frozen=True)
class Host:
    """A running host; `booted` makes one.

    Attributes:
        name: its host name, and its name in the network.
        network: that it is plugged into.
    """

    name: str
    network: Network
    _container: DockerContainer

    @classmethod
    @contextlib.contextmanager
    def booted(cls, image: str, name: str, network: Network, hardware: Hardware = Hardware()) -> Iterator[Self]:
        """A host of that image, up until the end of the block.

        Raises:
            TimeoutError: systemd does not come up.
        """
        container = DockerContainer(
            image,
            command=hardware.cgroups,
            hostname=name,
            labels=labels(),
            cgroupns="private",
            cap_add=["SYS_ADMIN", "NET_ADMIN", *hardware.capabilities],
            # Docker's own filter refuses calls that a machine has, Landlock's among them.
            security_opt=["seccomp=unconfined"],
            # Nobody answers for names beyond the network, and that is soon clear.
            dns=["127.0.0.1"],
            dns_opt=["timeout:1", "attempts:1"],
        )
        for place, options in {"/run": "", "/run/lock": "", **(hardware.tmpfs or {})}.items():
            container.with_tmpfs_mount(place, options)
        for place, source in (hardware.mounts or {}).items():
            container.with_volume_mapping(source, place, "ro")
        network.plug(container, name)
        with container:
            host = cls(name, network, container)
            host.wait_for_boot()
            yield host

    @property
    def container_id(self) -> str:
        """What Docker knows it by."""
        return self._container.get_container_id()

    @property
    def address(self) -> str:
        """Its IPv4 address in the network; another one after a reconnection."""
        place = f'{{{{(index .NetworkSettings.Networks "{self.network.name}").IPAddress}}}}'
        return docker("inspect", "--format", place, self.container_id).strip()

    def wait_for_boot(self, timeout_s: float = _BOOT_TIMEOUT_S) -> None:
        """Wait until systemd has started all that is enabled.

        Raises:
            TimeoutError: it has not.
        """

        def state() -> str:
            # Fails while the bus is not there.
            return self.run("systemctl is-system-running", check=False).stdout.strip()

        wait_until(f"{self.name} is up", lambda: state() in ("running", "degraded"), timeout_s)

    def argv(self, *command: str, user: str | None = None) -> list[str]:
        """The command line that runs a command on the host from here, with this process's standard streams."""
        return ["docker", "exec", "--interactive", *(["--user", user] if user else []), self.container_id, *command]

    def run(
        self, command: str, *, timeout_s: float = 60.0, check: bool = True, user: str | None = None, stdin: bytes = b""
    ) -> Result:
        """Run a line of shell and wait for its end.

        Args:
            command: for bash.
            timeout_s: after which it is ended.
            check: whether a status other than 0 is an error.
            user: that it runs as; root by default.
            stdin: that it reads.

        Raises:
            HostError: it failed, and `check` is set; or it took too long.
        """
        limited = ["timeout", f"--kill-after={_KILL_AFTER_S}", f"{timeout_s:g}", "bash", "-c", command]
        try:
            done = subprocess.run(
                self.argv(*limited, user=user),
                check=False,
                capture_output=True,
                input=stdin,
                timeout=timeout_s + _DOCKER_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"{self.name} did not end this in {timeout_s:g} s: {command}") from None
        result = Result(
            command, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )
        if result.status in _TIMED_OUT and check:
            raise HostError(f"on {self.name}, took too long ({timeout_s:g} s):\n{result}")
        if result.status != 0 and check:
            raise HostError(f"on {self.name}:\n{result}")
        return result

    def read(self, path: str) -> str:
        """The text of a file."""
        return self.run(f"cat {shlex.quote(path)}").stdout

    def write(self, path: str, text: str, *, mode: str = "0644", owner: str = "root:root") -> None:
        """Write a file, with the directories above it."""
        place = shlex.quote(path)
        self.run(
            f"mkdir -p {shlex.quote(str(PurePosixPath(path).parent))} && cat > {place} &&"
            f" chown {owner} {place} && chmod {mode} {place}",
            stdin=text.encode(),
        )

    def copy_in(self, source: Path, place: str) -> None:
        """Copy a file or a directory of this machine to a path on the host, owned by root."""
        pack = io.BytesIO()
        target = PurePosixPath(place)
        with tarfile.open(fileobj=pack, mode="w") as tar:
            tar.add(source, target.name, filter=_owned_by_root)
        parent = shlex.quote(str(target.parent))
        self.run(
            f"mkdir -p {parent} && tar --extract --directory {parent}", stdin=pack.getvalue(), timeout_s=_COPY_TIMEOUT_S
        )

    def copy_out(self, place: str, destination: Path) -> None:
        """Copy a file of the host to this machine."""
        command = self.argv("cat", place)
        with destination.open("wb") as file:
            subprocess.run(command, check=True, stdout=file, stdin=subprocess.DEVNULL, timeout=_COPY_TIMEOUT_S)

    def wait_for(self, what: str, predicate: Callable[[Host], T], timeout_s: float = 60.0) -> T:
        """Ask until the answer is true, and return it.

        Raises:
            TimeoutError: it never was.
        """
        return wait_until(f"on {self.name}, {what}", lambda: predicate(self), timeout_s)

    def systemctl(self, *arguments: str, check: bool = True, timeout_s: float = 120.0) -> Result:
        """Run systemctl."""
        return self.run(shlex.join(["systemctl", *arguments]), check=check, timeout_s=timeout_s)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as `systemctl show` gives them."""
        lines = self.systemctl("show", "--property", ",".join(properties), unit).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def main_pid(self, unit: str) -> int:
        """The main process of a unit; 0 if there is none."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def cursor(self) -> str:
        """A place at the journal's end, for `journal` to begin after."""
        self.run("journalctl --sync")
        return self.run("journalctl --lines=0 --show-cursor --quiet").stdout.removeprefix("-- cursor: ").strip()

    def journal(self, unit: str | None = None, *, after: str | None = None) -> tuple[Record, ...]:
        """The journal's records, oldest first.

        Args:
            unit: only its records, and what systemd says of it.
            after: a `cursor`; only what came later.
        """
        self.run("journalctl --sync")
        which = [*(["--unit", unit] if unit else []), *(["--after-cursor", after] if after else [])]
        return records(self.run(shlex.join(["journalctl", "--output=json", "--all", "--quiet", *which])).stdout)

    def pause(self) -> None:
        """Freeze every process of it."""
        docker("pause", self.container_id)

    def unpause(self) -> None:
        """Let them go on."""
        docker("unpause", self.container_id)

    def disconnect(self) -> None:
        """Cut it off from the network; commands still reach it."""
        self.network.disconnect(self.container_id)

    def reconnect(self) -> None:
        """Give it the network back, by the same name; its address may be another one."""
        self.network.connect(self.container_id, self.name)

    def kill(self) -> None:
        """Switch it off, as by a power cut; its disk stays."""
        docker("kill", self.container_id)

    def start(self) -> None:
        """Switch it on again and wait until it is up."""
        docker("start", self.container_id)
        self.wait_for_boot()

    def restart(self, timeout_s: float = 60.0) -> None:
        """Shut it down in order, within a time, and boot it again."""
        docker("stop", "--time", f"{timeout_s:.0f}", self.container_id, timeout_s=timeout_s + _DOCKER_TIMEOUT_S)
        self.start()

    def commit(self, name: str) -> None:
        """Keep its disk as an image of that name, which boots the same way."""
        docker("commit", self.container_id, name, timeout_s=_COMMIT_TIMEOUT_S)


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
