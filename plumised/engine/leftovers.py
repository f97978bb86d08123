"""Finds and ends the engine that a killed daemon left behind."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.engine.errors import PlaceError, RemainsError
from plumised.engine.processes import ProcessId, end_all, identify
from plumised.engine.shared_memory import forget_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """Which engine runs, as it is kept on disk.

    Attributes:
        main: its main process.
        incarnation: its identifier.
    """

    main: ProcessId
    incarnation: str


class EngineFile:
    """The file that tells the next daemon which engine runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, record: EngineRecord) -> None:
        """Replace the file, whole or not at all.

        Raises:
            PlaceError: it cannot be written.
        """
        text = json.dumps(
            {"pid": record.main.pid, "start_time": record.main.start_time, "incarnation": record.incarnation}
        )
        draft = self._path.with_suffix(".tmp")
        with _place(self._path):
            draft.touch(0o600)
            draft.write_text(text)
            draft.replace(self._path)

    def read(self) -> EngineRecord | None:
        """What the file says; None if there is none or it makes no sense.

        Raises:
            PlaceError: it exists and cannot be read.
        """
        if not self._path.exists():
            return None
        with _place(self._path):
            text = self._path.read_bytes()
        try:
            members = json.loads(text)
            pid, start_time, incarnation = members["pid"], members["start_time"], members["incarnation"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not (isinstance(pid, int) and isinstance(start_time, int) and isinstance(incarnation, str) and incarnation):
            return None
        return EngineRecord(ProcessId(pid, start_time), incarnation)

    def remove(self) -> None:
        """Nothing of the engine is left."""
        with _place(self._path):
            self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def _place(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PlaceError(
            f"{path} cannot be used: {error.strerror or error}",
            "See that its directory exists, has room, and belongs to the user that plumised runs as.",
        ) from error


async def end_leftover(file: EngineFile, deadline_s: float, clock: Callable[[], float]) -> EngineRecord | None:
    """End what is left of the engine that the file names, and remove the file.

    Returns:
        The engine whose processes were looked for; None if the file named none.

    Raises:
        RemainsError: some of its processes do not end.
        PlaceError: the file cannot be read or removed.
    """
    record = file.read()
    if record is None:
        file.remove()
        return None
    # With its leader gone, the number of a session may be given to another one.
    session = record.main.pid if identify(record.main.pid) == record.main else None
    remaining = await end_all(session, record.incarnation, 0, deadline_s, clock)
    if remaining:
        raise RemainsError(
            f"processes of the last engine cannot be ended: {', '.join(str(process.id.pid) for process in remaining)}",
            "The kernel holds them, most often for a broken disk or GPU; if they stay, restart the machine.",
        )
    forget_tensors([record.main.pid])
    file.remove()
    return record
