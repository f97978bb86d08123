"""Moves what versions before the engine's sandbox kept elsewhere: the tallies and the swarm identity.

They lay beside the ledger, in the state directory itself, which is closed to the engine.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.daemon.directories import Places

_log: Final = logging.getLogger(__name__)


def take_over(places: Places, identity_file: Path) -> None:
    """Move tallies and identity to the engine's part of the state. It may be cut short and done again at any point.

    An engine that still runs writes on to the very files, which keep their identity when they are moved.

    Args:
        places: whose directories exist.
        identity_file: of the swarm, as configured. An earlier one moves only to where it is looked for.

    Raises:
        OSError: something cannot be moved, or is in the way; `filename` is what was to be moved.
    """
    tallies = places.state / "tally"
    if tallies.is_dir():
        _merge(tallies, places.tally)
        _log.info("moved %s to %s", tallies, places.tally)
    identity = places.state / "identity.key"
    if identity_file == places.engine_state / identity.name and identity.exists() and not identity_file.exists():
        identity.rename(identity_file)
        _keep(places.engine_state)
        _log.info("moved %s to %s", identity, identity_file)


def _merge(source: Path, target: Path) -> None:
    """Move a directory's content into another one; both may hold a directory of one name, never a file."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if not place.exists():
            entry.rename(place)
        elif entry.is_dir() and place.is_dir():
            _merge(entry, place)
        else:
            raise FileExistsError(errno.EEXIST, "the file is there already", str(entry))
    _keep(target)
    # Its place may have been on another disk, by a link.
    source.unlink() if source.is_symlink() else source.rmdir()


def _keep(directory: Path) -> None:
    """Have the directory's entries survive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
