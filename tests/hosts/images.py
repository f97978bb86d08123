"""The images that hosts boot, each built once per recipe.

The name of an image ends in a hash of everything that went into it, so that a changed recipe is another image.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts.cache import cache_directory
from tests.hosts.docker_cli import docker
from tests.hosts.ownership import labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

RECIPE = Path(__file__).resolve().parent / "image"
SUITE = "bookworm"
_DEBIAN_SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
_BOOTSTRAP_TIMEOUT_S = 900.0
_BUILD_TIMEOUT_S = 900.0
_OTHERS_KEPT = 3


class ImageError(Exception):
    """An image could not be built; the message has the end of what was said."""


@dataclass(frozen=True)
class ImageStore:
    """Builds images, and keeps what takes long.

    Attributes:
        cache: directory for the tarballs of bases, which outlive the engine's own images.
    """

    cache: Path

    @classmethod
    def of_user(cls) -> ImageStore:
        """The store that all checkouts of this user share."""
        return cls(cache_directory())

    def base(self) -> str:
        """Debian with the packages of `image/packages`, from the mirrors that this machine uses."""
        packages = (RECIPE / "packages").read_text().split()
        name = f"plumise-test-base:{digest(SUITE, *packages)}"
        tarball = self.cache / f"{name.replace(':', '-')}.tar"

        def build() -> None:
            if not tarball.exists():
                draft = tarball.with_suffix(f".{os.getpid()}")
                include = f"--include={','.join(packages)}"
                try:
                    _run(
                        "mmdebstrap",
                        "--quiet",
                        "--variant=minbase",
                        "--format=tar",
                        include,
                        SUITE,
                        str(draft),
                        _sources(),
                    )
                    draft.replace(tarball)
                finally:
                    draft.unlink(missing_ok=True)
            _run("docker", "import", str(tarball), name)

        return self.made(name, build)

    def host(self) -> str:
        """The base, ready to boot systemd."""
        base = self.base()
        files = [path.read_bytes() for path in sorted(RECIPE.iterdir())]
        name = f"plumise-test-host:{digest(base, *files)}"

        def build() -> None:
            _run("docker", "build", "--quiet", "--tag", name, "--build-arg", f"BASE={base}", str(RECIPE))

        return self.made(name, build)

    def installed(self, base: str, stem: str, script: str, mounts: Mapping[str, Path], *parts: str) -> str:
        """What a shell script makes of another image, without a network and without systemd running.

        Args:
            base: the image to begin with.
            stem: of the new image's name; its older versions that nobody uses are removed.
            script: for sh.
            mounts: directories of this machine by the place where the script sees them, read-only.
            parts: whatever else decides what comes out.
        """
        name = f"{stem}:{digest(base, script, *parts)}"

        def build() -> None:
            worker = f"{stem}-{os.getpid()}"
            marks = [f"--label={key}={value}" for key, value in labels().items()]
            volumes = [f"--volume={source}:{place}:ro" for place, source in mounts.items()]
            options = [f"--name={worker}", "--network=none", "--entrypoint=/bin/sh", *marks, *volumes]
            try:
                _run("docker", "run", *options, base, "-ec", script)
                # The image would pass the worker's owner on to containers that somebody makes by hand.
                nobody = [f"--change=LABEL {key}=" for key in labels()]
                boots = ['--change=ENTRYPOINT ["/sbin/boot-host"]', '--change=CMD ["unified"]']
                _run("docker", "commit", *boots, *nobody, worker, name)
            finally:
                _try("docker", "rm", "--force", worker)
            self._remove_older(stem, name)

        return self.made(name, build)

    def _remove_older(self, stem: str, kept: str) -> None:
        names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", stem).split()
        # Newest first; the others may be those of another checkout, which is about to boot them.
        for name in [name for name in names if name != kept][_OTHERS_KEPT:]:
            _try("docker", "image", "rm", name)

    def made(self, name: str, build: Callable[[], None]) -> str:
        """The image of that name, built where it is not there; one session at a time builds.

        Raises:
            ImageError: it could not be built.
        """
        with self._locked(name):
            if not _exists(name):
                build()
        return name

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / f"{name.partition(':')[0]}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def digest(*parts: str | bytes) -> str:
    """A short hash of the parts and of their order."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]


def _try(*command: str) -> None:
    with contextlib.suppress(ImageError):
        _run(*command)


def _exists(name: str) -> bool:
    command = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    return subprocess.run(command, check=False, capture_output=True, timeout=_BUILD_TIMEOUT_S).returncode == 0


def _sources() -> str:
    for path in _DEBIAN_SOURCES:
        if path.exists():
            return str(path)
    raise ImageError(f"this machine has none of {', '.join(map(str, _DEBIAN_SOURCES))} to take Debian from")


def _run(*command: str) -> None:
    # BuildKit would fetch its frontend.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    try:
        done = subprocess.run(
            command,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            timeout=_BOOTSTRAP_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise ImageError(f"{command[0]} not found; run requirements/debian-packages hosts") from None
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command[:3])} … ended with {done.returncode}:\n{done.stdout[-3000:]}")
