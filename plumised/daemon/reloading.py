"""Reading the configuration again: checked as a whole first, then applied as a whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from plumised.config import Changes, ConfigError, ConfigProblem, changes
from plumised.errors import OperatorError, PlumisedError
from plumised.events import LogEvent, told
from plumised.observe.reloaded import Reloaded

if TYPE_CHECKING:
    from plumised.config import Origin, Settings

_log: Final = logging.getLogger(__name__)


class RestartNeededError(OperatorError):
    """The new configuration is good, but something in it takes effect only when the daemon is started anew."""

    code = "reload-needs-restart"


class ReloadBusyError(PlumisedError):
    """One reload is under way, and another waits for it already."""

    code = "reload-busy"


class Reloadable(Protocol):
    """What goes by the configuration; the node."""

    @property
    def settings(self) -> Settings:
        """What it goes by."""

    async def check(self, new: Settings, found: Changes) -> tuple[ConfigProblem, ...]:
        """What a start with these settings would refuse; changes nothing."""

    async def apply(self, new: Settings, found: Changes) -> None:
        """Go by these settings, which change nothing that needs a restart of the daemon.

        Raises:
            OperatorError: it does not, and nothing was changed.
            PlumisedError: it does, but the engine could not be started anew.
        """


class Reloading:
    """Reloads, one at a time. A caller that goes away leaves either the old or the new configuration in force.

    Args:
        origin: where the configuration is read.
        node: what goes by it.
    """

    def __init__(self, origin: Origin, node: Reloadable) -> None:
        self._origin = origin
        self._node = node
        self._one = asyncio.Lock()
        self._waits = False

    async def run(self) -> Reloaded:
        """Read the configuration and have the node go by it; what comes of it is logged.

        One caller may wait for another; it then reads what the files say by that time.

        Raises:
            OperatorError: nothing was changed; the error has all reasons.
            ReloadBusyError: too many at a time.
            PlumisedError: the configuration is in force, but the engine could not be started anew.
        """
        if self._one.locked():
            if self._waits:
                raise ReloadBusyError("The configuration is being read again, and one more time after that", "Wait.")
            self._waits = True
        try:
            await self._one.acquire()
        finally:
            self._waits = False
        try:
            done = await self._run()
        except ConfigError as error:
            for problem in error.problems:
                refused = told(LogEvent.CONFIG_REFUSED, reason=error.code, keys=(problem.key,) if problem.key else ())
                _log.error("the configuration is not taken: %s", problem, extra=refused)
            raise
        except PlumisedError as error:
            event = LogEvent.CONFIG_REFUSED if isinstance(error, OperatorError) else LogEvent.COMMAND_FAILED
            _log.error("%s", error, extra=told(event, reason=error.code))
            raise
        finally:
            self._one.release()
        applied = told(LogEvent.CONFIG_APPLIED, keys=(*done.live, *done.engine))
        _log.info("the configuration was read again: %s", done.message, extra=applied)
        return done

    async def _run(self) -> Reloaded:
        new = await asyncio.to_thread(self._origin.read)
        found = changes(self._node.settings, new)
        if not found:
            return Reloaded()
        problems = await self._node.check(new, found)
        if found.daemon:
            raise self._restart_needed(problems, found)
        if problems:
            raise ConfigError(problems)
        await self._node.apply(new, found)
        return Reloaded(found.live, found.engine)

    def _restart_needed(self, problems: tuple[ConfigProblem, ...], found: Changes) -> OperatorError:
        told = f"asks for another start of the daemon, so nothing was changed: {', '.join(found.daemon)} changed"
        unit = self._origin.layout.unit.removesuffix(".service")
        remedy = f"Restart it with systemctl restart {unit}, or change them back."
        if problems:
            return ConfigError((*problems, ConfigProblem(self._origin.file, None, None, told, remedy)))
        return RestartNeededError(f"{self._origin.file} {told}", remedy)
