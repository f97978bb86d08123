"""Keeps the agent registered: asks at the start, now and then, and whenever somebody doubts it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Never

from plumised.chain.problem_board import ProblemBoard, Source
from plumised.chain.problems import ChainProblem
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told

if TYPE_CHECKING:
    from plumised.chain.registration import Registered, Registrar
    from plumised.chain.timing import Timing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MembershipPolicy:
    """How often the registration is looked at, in seconds.

    Attributes:
        recheck_s: between two questions whether the agent is still registered.
        visible_s: how long a registration may take to show.
        first_retry_s: after the first failure; doubles with each.
        longest_retry_s: at most.
        tick_s: between two looks whether a registration shows.
    """

    recheck_s: float
    visible_s: float
    first_retry_s: float
    longest_retry_s: float
    tick_s: float


class Membership:
    """The agent's registration at precompile 0x21.

    Args:
        agent: checksummed address.
        registrar: asks and registers.
        board: is told what is wrong.
        policy: how often.
        timing: time and chance.

    Attributes:
        registered: what the chain said last, or None.
        transaction: this node's own registration, where it made one.
    """

    def __init__(
        self, agent: str, registrar: Registrar, board: ProblemBoard, policy: MembershipPolicy, timing: Timing
    ) -> None:
        self.registered: Registered | None = None
        self.transaction: str | None = None
        self._agent = agent
        self._registrar = registrar
        self._board = board
        self._policy = policy
        self._timing = timing
        self._wake = asyncio.Event()
        self._told = False

    def holds(self) -> bool:
        """Whether the agent is registered, as far as is known."""
        return self.registered is not None and self.registered.yes

    def ask_soon(self) -> None:
        """Have the chain asked soon."""
        self._wake.set()

    def doubt(self) -> None:
        """Forget what the chain said: it treats the agent as not registered."""
        self.registered = None
        self.ask_soon()

    async def run(self) -> Never:
        """Keep the agent registered until cancelled. May be called again."""
        policy, failures = self._policy, 0
        while True:
            self._wake.clear()
            problem = await self._ensure()
            failures = failures + 1 if problem is not None else 0
            pause_s = policy.recheck_s
            if problem is not None:
                pause_s = self._timing.backoff_s(failures - 1, policy.first_retry_s, policy.longest_retry_s)
                problem = replace(problem, retry_at=self._timing.clock() + pause_s)
            self._board.report(Source.REGISTRATION, problem)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            # Whoever asks may ask often; the chain is not asked more often than after a first failure.
            await self._timing.sleep(policy.first_retry_s)

    async def _ensure(self) -> ChainProblem | None:
        try:
            self.registered = await self._registrar.ask()
            if not self.registered.yes:
                _log.info(
                    "%s is not registered (%s); registering it",
                    self._agent,
                    self.registered.source.value,
                    extra=told(LogEvent.REGISTERING, agent=self._agent),
                )
                problem = await self._registrar.register()
                if problem is not None:
                    return problem
                await self._await_visible()
            self.transaction = await self._registrar.transaction()
            self._tell()
        except PlumisedError as error:
            return ChainProblem.of(error)
        if self.registered.yes:
            return None
        return ChainProblem(
            "registration-not-visible",
            f"{self._agent} was registered, but the chain does not show it ({self.registered.source.value})",
            "Nothing to do: it is asked again.",
        )

    def _tell(self) -> None:
        """Log that the agent is registered, once it is."""
        if self.registered is not None and self.registered.yes and not self._told:
            registered = told(LogEvent.REGISTERED, agent=self._agent, transaction=self.transaction)
            _log.info("%s is registered (%s)", self._agent, self.registered.source.value, extra=registered)
        self._told = self.holds()

    async def _await_visible(self) -> None:
        deadline = self._timing.monotonic() + self._policy.visible_s
        while True:
            self.registered = await self._registrar.ask()
            if self.registered.yes or self._timing.monotonic() >= deadline:
                return
            await self._timing.sleep(self._policy.tick_s)
