"""What is wrong on the chain's side at the moment, one problem from each place where one can be."""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING

from plumised.events import LogEvent, told

if TYPE_CHECKING:
    from plumised.chain.problems import ChainProblem

_log = logging.getLogger(__name__)


class Source(StrEnum):
    """Where a problem comes from, gravest first."""

    REGISTRATION = "registration"
    BALANCE = "balance"
    ENDPOINTS = "endpoints"
    REWARDS = "rewards"
    CLAIM = "claim"
    PROOFS = "proofs"


class ProblemBoard:
    """Keeps the problems, and logs each when it appears, changes or goes."""

    def __init__(self) -> None:
        self._problems: dict[Source, ChainProblem] = {}

    def report(self, source: Source, problem: ChainProblem | None) -> None:
        """Put a problem in the place of the one of the same source; None takes that away."""
        previous = self._problems.pop(source, None)
        if problem is not None:
            self._problems[source] = problem
            if previous is None or previous.code != problem.code:
                trouble = told(LogEvent.CHAIN_TROUBLE, reason=problem.code)
                _log.warning("%s (%s). %s", problem.message, problem.code, problem.remedy, extra=trouble)
        elif previous is not None:
            over = told(LogEvent.CHAIN_RECOVERED, reason=previous.code)
            _log.info("%s: %s is over", source.value, previous.code, extra=over)

    def of(self, source: Source) -> ChainProblem | None:
        """Return the problem from there, or None."""
        return self._problems.get(source)

    def all(self) -> tuple[ChainProblem, ...]:
        """Return what is wrong, gravest first."""
        return tuple(self._problems[source] for source in Source if source in self._problems)
