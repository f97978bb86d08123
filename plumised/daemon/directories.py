"""The node's directories, and what stands where in them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.daemon.moving import take_over
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.config import NodeSettings


class DirectoryError(OperatorError):
    """A directory of the node cannot be made or written."""

    code = "directory-not-writable"


@dataclass(frozen=True, slots=True)
class Places:
    """Files and directories of one node.

    Attributes:
        state: survives everything.
        runtime: may go when the daemon stops.
        cache: can be fetched again.
    """

    state: Path
    runtime: Path
    cache: Path

    @property
    def ledger(self) -> Path:
        """The ledger's database."""
        return self.state / "ledger.sqlite"

    @property
    def engine_state(self) -> Path:
        """The engine's part of the state; the rest is closed to it."""
        return self.state / "engine"

    @property
    def tally(self) -> Path:
        """The engine's tallies; they are work that is not in the ledger yet."""
        return self.engine_state / "tally"

    @property
    def engine_file(self) -> Path:
        """Names the running engine for a daemon that comes after a crash."""
        return self.state / "engine.json"

    @property
    def engine_socket(self) -> Path:
        """Where the engine meets the daemon."""
        return self.runtime / "engine.sock"

    @property
    def engine_runtime(self) -> Path:
        """The engine's alone: scratch files and p2pd's sockets."""
        return self.runtime / "engine"


def prepare(node: NodeSettings, identity_file: Path) -> Places:
    """Make the directories that are missing and check that all can be written.

    Args:
        node: says where they are.
        identity_file: of the swarm, as configured.

    Raises:
        DirectoryError: one cannot, or what an earlier version left cannot be moved to its place.
    """
    places = Places(node.state_dir, node.runtime_dir, node.cache_dir)
    for key, directory, mode in (
        ("state_dir", places.state, 0o750),
        ("runtime_dir", places.runtime, 0o750),
        ("cache_dir", places.cache, 0o750),
        ("state_dir", places.engine_state, 0o700),
        ("state_dir", places.tally, 0o700),
        ("runtime_dir", places.engine_runtime, 0o700),
    ):
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            # Permission bits do not tell of a read-only or full file system; writing does.
            with tempfile.TemporaryFile(dir=directory) as file:
                os.write(file.fileno(), b"\0")
        except OSError as error:
            raise DirectoryError(
                f"{directory} (node.{key}) cannot be written: {error.strerror}",
                f"Make it a directory that the user of the service may write, or change node.{key}.",
            ) from None
    try:
        take_over(places, identity_file)
    except OSError as error:
        raise DirectoryError(
            f"{error.filename} cannot be moved to {places.engine_state}: {error.strerror}",
            "Let the user of the service write to both, or move it by hand while the daemon is stopped.",
        ) from None
    return places
