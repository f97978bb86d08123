"""Where a node of the package keeps what: the only one of a machine, or one of several under names of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from plumised.config.problems import UnfitError
from plumised.config.values import shown

LONGEST_NAME = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files and directories of one node, as its unit in `systemd/` has them.

    Attributes:
        instance: what stands after the @ of `plumised@.service`; None for `plumised.service`.
    """

    instance: str | None = None

    @property
    def unit(self) -> str:
        """The service's name."""
        return "plumised.service" if self.instance is None else f"plumised@{self.instance}.service"

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return _CONFIG_DIR / f"{self._stem}.toml"

    @property
    def password_file(self) -> Path:
        """What the unit's LoadCredential= reads the wallet's password from."""
        return _CONFIG_DIR / f"{self._stem}.password"

    @property
    def state_dir(self) -> Path:
        """Default of node.state_dir."""
        return Path("/var/lib") / self._directory

    @property
    def cache_dir(self) -> Path:
        """Default of node.cache_dir."""
        return Path("/var/cache") / self._directory

    @property
    def runtime_dir(self) -> Path:
        """Default of node.runtime_dir."""
        return Path("/run") / self._directory

    @property
    def control_socket(self) -> Path:
        """Default of node.control_socket."""
        return self.runtime_dir / "control.sock"

    @property
    def _stem(self) -> str:
        return "node" if self.instance is None else self.instance

    @property
    def _directory(self) -> str:
        return "plumise" if self.instance is None else f"plumise-{self.instance}"


_CONFIG_DIR = Path("/etc/plumise")

PLAIN = Layout()
"""The only node of a machine."""


def instance(name: str) -> Layout:
    """The layout of `plumised@NAME.service`.

    Raises:
        UnfitError: the name cannot be an instance's.
    """
    if name == "node":
        raise UnfitError('is "node", whose file is that of plumised.service', "Choose another name, or leave it out.")
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UnfitError(
            f"is {shown(name)}, which cannot be an instance's name",
            f"Write 1 to {LONGEST_NAME} letters, digits, dots, hyphens or underscores, the first a letter or a digit.",
        )
    return Layout(name)
