"""The package repository that `make deb` leaves, as hosts see it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.hosts.host import Host
    from tests.hosts.images import ImageStore

NODE = "plumise-node"
ENGINE = "plumise-engine-petals"
PLACE = "/srv/apt"
"""Where hosts have the repository."""
QUIET = "DEBIAN_FRONTEND=noninteractive apt-get -y -q"
"""An apt that asks nothing."""
_BUILD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Package:
    """One .deb."""

    file: Path
    name: str
    version: str


@dataclass(frozen=True)
class Repository:
    """A flat repository."""

    directory: Path

    def package(self, name: str) -> Package:
        """The package of that name.

        Raises:
            LookupError: there is none, or more than one.
        """
        files = sorted(self.directory.glob(f"{name}_*.deb"))
        if len(files) != 1:
            raise LookupError(f"{self.directory} has {len(files)} packages {name}; run make deb")
        version = _field(files[0], "Version")
        return Package(files[0], name, version)

    def image_with(self, images: ImageStore, base: str, *names: str) -> str:
        """A host image on which packages have been installed while systemd did not run."""
        packages = [self.package(name) for name in names]
        script = f"{use_command(PLACE)}\n{QUIET} install {' '.join(names)}\n: > /etc/machine-id"
        return images.installed(
            base, f"plumise-test-{names[-1]}", script, {PLACE: self.directory}, *(hash_of(p.file) for p in packages)
        )


def use_command(place: str) -> str:
    """The shell line that has a host install from the repository at that place, and from nowhere else."""
    source = f"deb [trusted=yes] file:{place} ./"
    # What apt knows of another build of the repository, which an image has kept, it would go on believing.
    forget = "rm -rf /var/lib/apt/lists/*"
    return f"echo '{source}' > /etc/apt/sources.list.d/test.list && {forget} && apt-get -q update"


def use(host: Host, place: str = PLACE) -> None:
    """Have a host install from the repository at that place, and from nowhere else."""
    host.run(use_command(place))


def hash_of(file: Path) -> str:
    """What tells one build of a package from another."""
    done = subprocess.run(
        ["sha256sum", str(file)], check=True, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S
    )
    return done.stdout.split()[0]


def renamed(package: Package, version: str, destination: Path, files: Mapping[str, str]) -> Path:
    """The same package under another version, as a file in `destination`.

    Args:
        package: to begin with.
        version: that it gets.
        destination: directory for it.
        files: texts that stand in it instead of those it has.

    Raises:
        subprocess.CalledProcessError: dpkg-deb refuses.
    """
    tree = destination / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", str(package.file), str(tree)], check=True, timeout=_BUILD_TIMEOUT_S)
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    control.write_text(
        "".join(f"Version: {version}\n" if line.startswith("Version:") else f"{line}\n" for line in lines)
    )
    for name, text in files.items():
        (tree / name).write_text(text)
    file = destination / f"{package.name}_{version}_amd64.deb"
    command = ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", str(tree), str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=_BUILD_TIMEOUT_S)
    shutil.rmtree(tree)
    return file


def _field(file: Path, name: str) -> str:
    command = ["dpkg-deb", "--field", str(file), name]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S).stdout.strip()
