"""Where a daemon's configuration is read, at its start and again later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.config.layout import PLAIN, Layout
from plumised.config.loading import load

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Origin:
    """A file, and what stands for what it does not say.

    Attributes:
        file: node.toml or what stands for it, absolute.
        host_name: what the node is called by default.
        layout: where its directories are by default.
    """

    file: Path
    host_name: str
    layout: Layout = PLAIN

    def read(self) -> Settings:
        """The settings as the files have them. Raises ConfigError."""
        return load(self.file, host_name=self.host_name, layout=self.layout)
