"""What can go wrong on the daemon's side of the engine, apart from the engine's own failures."""

from __future__ import annotations

from plumised.errors import PlumisedError


class SocketError(PlumisedError):
    """The socket for the engine cannot be opened."""

    code = "engine-socket"


class LaunchError(PlumisedError):
    """The engine's interpreter cannot be started."""

    code = "engine-missing"


class RemainsError(PlumisedError):
    """Processes of an earlier engine cannot be ended."""

    code = "engine-remains"
