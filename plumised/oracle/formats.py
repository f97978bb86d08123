"""What is sent to the Oracle and signed for it, to the byte, in both dialects. Pure. Source: docs/wire-formats.md."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumised.ledger import Proof

HEALTH_PATH = "/health"
REGISTER_PATH = "/api/nodes/register"

GREATEST_UPTIME_S = 2**31 - 1
"""The Oracle keeps uptime and request count in 32 bit and answers more with "Internal server error"."""


class Dialect(StrEnum):
    """The two forms of a report."""

    REPORT_V1 = "report-v1"
    METRICS_V1 = "metrics-v1"

    @property
    def report_path(self) -> str:
        """Where reports are posted."""
        return "/api/v1/report" if self is Dialect.REPORT_V1 else "/api/v1/metrics/report"

    @property
    def other(self) -> Dialect:
        """The one to try where this one is answered with 404."""
        return Dialect.METRICS_V1 if self is Dialect.REPORT_V1 else Dialect.REPORT_V1

    @property
    def carries_proofs(self) -> bool:
        """Whether a report has room for proofs."""
        return self is Dialect.METRICS_V1

    @property
    def has_history(self) -> bool:
        """Whether the Oracle tells the timestamp of the last report that it accepted."""
        return self is Dialect.METRICS_V1


@dataclass(frozen=True, slots=True)
class Claim:
    """What a report says.

    Attributes:
        agent: checksummed address.
        tokens: cumulative since the base.
        requests: cumulative since the base.
        average_latency_ms: finite, not negative; 0.0 without requests.
        uptime_s: whole seconds since the daemon started.
        timestamp: seconds since the epoch, above that of every report before.
        proofs: only metrics-v1 carries them.
    """

    agent: str
    tokens: int
    requests: int
    average_latency_ms: float
    uptime_s: int
    timestamp: int
    proofs: tuple[Proof, ...] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.average_latency_ms):
            raise ValueError("the average latency is not finite, which JSON cannot say")


def signed_text(dialect: Dialect, claim: Claim) -> str:
    """The text whose EIP-191 signature makes the claim valid."""
    if dialect is Dialect.REPORT_V1:
        return json.dumps(_payload(claim), sort_keys=True, separators=(",", ":"))
    return _compact({"agent": claim.agent, "processed_tokens": claim.tokens, "timestamp": claim.timestamp})


def report_body(dialect: Dialect, claim: Claim, signature: str) -> str:
    """The body to post, JSON. It has no field that the dialect does not know: the Oracle refuses such reports whole."""
    if dialect is Dialect.REPORT_V1:
        return _compact({"payload": _payload(claim), "signature": signature})
    body: dict[str, object] = {
        "wallet": claim.agent,
        "tokensProcessed": claim.tokens,
        "avgLatencyMs": claim.average_latency_ms,
        "requestCount": claim.requests,
        "uptimeSeconds": claim.uptime_s,
        "timestamp": claim.timestamp,
        "signature": signature,
    }
    if claim.proofs:
        body["proofs"] = [
            {
                "modelHash": proof.model_hash,
                "inputHash": proof.input_hash,
                "outputHash": proof.output_hash,
                "tokenCount": proof.token_count,
            }
            for proof in claim.proofs
        ]
    return _compact(body)


def history_path(agent: str) -> str:
    """Where metrics-v1 tells the last accepted report of `agent`."""
    return f"/api/v1/metrics/agents/{agent}/history?limit=1"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node tells the Oracle of itself.

    Attributes:
        address: of the agent, checksummed.
        endpoint: URL whose host is an IP address or has a dot.
        capabilities: in the order in which they are signed and sent.
        timestamp: seconds since the epoch.
    """

    address: str
    endpoint: str
    capabilities: tuple[str, ...]
    timestamp: int


def announcement_text(announcement: Announcement) -> str:
    """The text to sign: four fields in the order of the Oracle's code, not sorted, as JavaScript writes JSON."""
    return _compact(_announced(announcement))


def announcement_body(announcement: Announcement, signature: str) -> str:
    """The body to post, JSON."""
    return _compact({**_announced(announcement), "signature": signature})


def _announced(announcement: Announcement) -> dict[str, object]:
    return {
        "address": announcement.address,
        "endpoint": announcement.endpoint,
        "capabilities": list(announcement.capabilities),
        "timestamp": announcement.timestamp,
    }


def _payload(claim: Claim) -> dict[str, object]:
    return {
        "agent": claim.agent,
        "processed_tokens": claim.tokens,
        "avg_latency_ms": claim.average_latency_ms,
        "uptime_seconds": claim.uptime_s,
        "tasks_completed": claim.requests,
        "timestamp": claim.timestamp,
    }


def _compact(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
