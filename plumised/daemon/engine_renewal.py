"""Waits for an engine that takes the place of the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plumised.engine.snapshot import StateName
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from plumised.engine.engine import Engine
    from plumised.engine.snapshot import EngineSnapshot

END_S: Final = 15.0
"""How long the end of an engine may take beyond its own time to stop: killing it, and its bookkeeping."""


class EngineDownError(PlumisedError):
    """The configuration is in force, but the engine could not be started anew with it."""

    code = "reload-engine-down"


async def renewed(engine: Engine, before: str | None, timeout_s: float) -> None:
    """Wait until another engine is under way; whether it gets so far as to serve is not waited for.

    Args:
        engine: told to restart.
        before: incarnation of the last one.
        timeout_s: how long the last one may take to stop, and the next one to be spawned.

    Raises:
        EngineDownError: the last one does not end in time, or the next one does not start.
    """

    def settled(seen: EngineSnapshot) -> bool:
        if seen.state in {StateName.STARTING, StateName.SERVING}:
            return seen.incarnation != before and seen.pid is not None
        return seen.state is not StateName.STOPPING

    within_s = timeout_s + END_S
    try:
        seen = await engine.wait_for(settled, within_s)
    except TimeoutError:
        raise EngineDownError(
            f"The new configuration is in force, but the last engine has not ended within {within_s:g} s",
            "Look at the log; the next one is started as soon as it has ended.",
        ) from None
    if seen.cause is not None:
        raise EngineDownError(
            f"The new configuration is in force, but the engine does not start: {seen.cause.message}",
            seen.cause.remedy,
        )
