"""`[node]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from plumised.config import values
from plumised.config.sections.section import AbsolutePath, Section


class NodeSettings(Section, frozen=True):
    """The node itself: its name and where it keeps its files."""

    name: Annotated[str, AfterValidator(values.node_name)] = Field(
        description="Name of the node in log, status and metrics: 1 to 32 letters, digits, dots, hyphens, underscores. "
        "By default the host's name.",
        examples=["my-node"],
    )
    state_dir: AbsolutePath = Field(
        Path("/var/lib/plumise"), description="Directory for what must survive: ledger, swarm identity, wallet."
    )
    runtime_dir: AbsolutePath = Field(
        Path("/run/plumise"), description="Directory for sockets and the like, which may go at a reboot."
    )
    cache_dir: AbsolutePath = Field(
        Path("/var/cache/plumise"), description="Directory for model files, which can be fetched again."
    )
    control_socket: AbsolutePath = Field(
        Path("/run/plumise/control.sock"),
        description="Unix socket on which the daemon answers `plumised status` and the like. By default control.sock "
        "in runtime_dir.",
    )
