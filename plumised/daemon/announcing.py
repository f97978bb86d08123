"""Tells the Oracle where the node is: once it serves, and when the wallet cannot pay for its registration."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Final, Never

from plumised.errors import PlumisedError
from plumised.events import LogEvent, told
from plumised.observe.status import Trouble
from plumised.oracle import Announced, Refused, Unsent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plumised.oracle import Announcer

_log: Final = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_S: Final = 600.0
POLL_S: Final = 1.0
"""Between two looks whether there is something to announce."""
_DIALABLE: Final = re.compile(r"/(ip4|dns4)/([^/]+)/tcp/(\d+)(?:/.*)?")


class AnnouncementError(PlumisedError):
    """The Oracle has not taken the announcement.

    Attributes:
        retry_after_s: for how long it wants to be left alone, or None.
    """

    code = "announcement-refused"

    def __init__(self, message: str, remedy: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, remedy)
        self.retry_after_s = retry_after_s


class EndpointUnknownError(PlumisedError):
    """There is nothing yet that could be announced."""

    code = "endpoint-unknown"


def endpoint_of(configured: str | None, addresses: Sequence[str]) -> str | None:
    """What to announce: the configured endpoint, else the first address under which the swarm can reach the engine.

    Args:
        configured: oracle.endpoint.
        addresses: multiaddresses of the engine.
    """
    if configured is not None:
        return configured
    for address in addresses:
        if match := _DIALABLE.fullmatch(address):
            return f"http://{match[2]}:{match[3]}"
    return None


def wanted(registration: str, endpoint: str | None) -> bool:
    """Whether the node is announced by itself once it serves.

    Args:
        registration: oracle.registration: `auto`, `always` or `never`.
        endpoint: oracle.endpoint.
    """
    return registration == "always" or (registration == "auto" and endpoint is not None)


class Announcements:
    """Announces this node.

    Args:
        announcer: of the agent.
        model: that is served.
        endpoint: what to announce at the moment, or None.
        wanted: whether the node is announced by itself once it serves.

    Attributes:
        trouble: why the last announcement was not taken; None where it was, and before the first.
    """

    def __init__(self, announcer: Announcer, model: str, endpoint: Callable[[], str | None], *, wanted: bool) -> None:
        self.adopt(announcer, model, endpoint, wanted=wanted)

    def adopt(self, announcer: Announcer, model: str, endpoint: Callable[[], str | None], *, wanted: bool) -> None:
        """Go by these from now on, and announce the node anew where that is wanted. The arguments: see the class."""
        self._announcer = announcer
        self._model = model
        self._endpoint = endpoint
        self._due = wanted
        self._not_before = float("-inf")
        self._pause_s = FIRST_PAUSE_S
        self.trouble: Trouble | None = None

    async def run(
        self,
        serving: Callable[[], bool],
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wall: Callable[[], float] = time.time,
    ) -> Never:
        """Announce what is to be announced as soon as the node serves, until cancelled.

        Args:
            serving: whether the engine serves.
            random: uniform in [0, 1).
            clock: monotonic seconds.
            sleep: waits for so many seconds.
            wall: seconds since the epoch.
        """
        while True:
            if self._due and clock() >= self._not_before and serving():
                # Before the wait, so that what is adopted meanwhile is announced as well.
                self._due = False
                announcer = self._announcer
                try:
                    await self.announce()
                except PlumisedError as error:
                    wait_s = _wait_s(error, self._pause_s * (0.5 + random()))
                    failed = told(LogEvent.ANNOUNCEMENT_FAILED, reason=error.code, retry_s=wait_s)
                    _log.warning("%s Next try in %.0f s.", error, wait_s, extra=failed)
                    if self._announcer is announcer:
                        self._due, self._not_before = True, clock() + wait_s
                        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                        self.trouble = self._told(error, wall(), wait_s)
                else:
                    _log.info("the Oracle knows where this node is", extra=told(LogEvent.ANNOUNCED))
                    self.trouble = None
            await sleep(POLL_S)

    def _told(self, error: PlumisedError, at: float, wait_s: float) -> Trouble:
        same = self.trouble is not None and self.trouble.code == error.code
        since = self.trouble.since if same and self.trouble is not None else at
        return Trouble(error.code, error.message, error.remedy, since, at + wait_s)

    async def announce(self) -> None:
        """Announce the node; the Oracle registers it on chain where it is not.

        Raises:
            EndpointUnknownError: the engine has no address yet.
            AnnouncementError: the Oracle did not take it.
            LedgerError: nothing was sent.
        """
        endpoint = self._endpoint()
        if endpoint is None:
            raise EndpointUnknownError(
                "The engine has no address yet that could be announced to the Oracle",
                "Wait until it is in the swarm, or set oracle.endpoint.",
            )
        outcome = await self._announcer.announce(endpoint, ("inference", self._model))
        if isinstance(outcome, Announced):
            return
        said = outcome.message if isinstance(outcome, Refused) else outcome.cause
        raise AnnouncementError(
            f"The Oracle did not take the announcement of {endpoint}: {said}",
            "Check oracle.url and oracle.endpoint; it is tried again.",
            None if isinstance(outcome, Unsent) else outcome.retry_after_s,
        )


def _wait_s(error: PlumisedError, usual_s: float) -> float:
    asked_s = error.retry_after_s if isinstance(error, AnnouncementError) else None
    return usual_s if asked_s is None else max(usual_s, min(asked_s, LONGEST_PAUSE_S))
