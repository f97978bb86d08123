"""What can go wrong on the daemon's side of the engine, apart from the engine's own failures."""

from __future__ import annotations

from plumised.errors import PlumisedError


class SocketError(PlumisedError):
    """The socket for the engine cannot be opened."""

    code = "engine-socket"


class LaunchError(PlumisedError):
    """The engine's interpreter is missing, or is none."""

    code = "engine-missing"


class SpawnError(PlumisedError):
    """The system cannot start another process at the moment."""

    code = "engine-spawn"


class PlaceError(PlumisedError):
    """A file by which daemon and engine meet cannot be used."""

    code = "engine-files"


class RemainsError(PlumisedError):
    """Processes of an earlier engine cannot be ended."""

    code = "engine-remains"


class UnseenError(PlumisedError):
    """The kernel does not let the daemon look at processes, for want of file descriptors."""

    code = "engine-unseen"

    def __init__(self) -> None:
        super().__init__(
            "the engine's processes cannot be looked at: there is no file descriptor left",
            "Raise LimitNOFILE= of the unit, or look for what uses descriptors up; the node goes on meanwhile.",
        )
