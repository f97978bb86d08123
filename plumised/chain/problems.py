"""What is wrong on the chain's side, for status, log and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumised.errors import PlumisedError


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """Something that an operator should know of.

    Attributes:
        code: stable kebab-case identifier, listed in docs/chain.md.
        message: what happened, with the values concerned.
        remedy: what the operator can do.
        retry_at: when it is tried again, seconds since the epoch; None where nothing is scheduled.
    """

    code: str
    message: str
    remedy: str
    retry_at: float | None = None

    @staticmethod
    def of(error: PlumisedError, retry_at: float | None = None) -> ChainProblem:
        """Return what an error says."""
        return ChainProblem(error.code, error.message, error.remedy, retry_at)
