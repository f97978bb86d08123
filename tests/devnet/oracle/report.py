"""One report, whichever dialect it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Dialect: TypeAlias = Literal["report-v1", "metrics-v1"]
DIALECTS: tuple[Dialect, ...] = ("report-v1", "metrics-v1")


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof of work as sent; hashes in hex with 0x."""

    model_hash: str
    input_hash: str
    output_hash: str
    token_count: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a node claims about itself; the counters are cumulative.

    Attributes:
        agent: the wallet's address, lower case.
        timestamp: Unix time in seconds.
    """

    dialect: Dialect
    agent: str
    tokens: int
    requests: int
    latency_ms: float
    uptime_s: int
    timestamp: int
    proofs: tuple[Proof, ...] = ()
