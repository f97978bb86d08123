"""The status as Prometheus metrics, in the text exposition format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.observe.checks import CHECKS, problems
from plumised.observe.status import EngineState
from plumised.observe.wording import WEI_PER_PLM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from plumised.observe.status import Status, Work

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
USEC = 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric; None is left out."""

    value: float | None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: with its unit.
        kind: `counter` or `gauge`.
        meaning: one sentence; docs/metrics.md has it too.
        samples: its values in a status.
    """

    name: str
    kind: str
    meaning: str
    samples: Callable[[Status], Iterator[Sample]]


def exposition(status: Status) -> str:
    """All metrics of the status."""
    lines: list[str] = []
    for metric in METRICS:
        lines.append(f"# HELP {metric.name} {_escaped(metric.meaning)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines.extend(
            f"{metric.name}{_labels(sample.labels)} {_number(sample.value)}"
            for sample in metric.samples(status)
            if sample.value is not None
        )
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"').encode("utf-8", "replace").decode("utf-8")


def _number(value: float) -> str:
    return repr(int(value) if isinstance(value, bool) else value)


def _one(value: Callable[[Status], float | None]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        yield Sample(value(status), {})

    return samples


def _by_kind(value: Callable[[Work], float]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for kind in ("inference", "forward", "backward"):
            yield Sample(value(getattr(status.usage, kind)), {"kind": kind})

    return samples


def _info(status: Status) -> Iterator[Sample]:
    yield Sample(
        1,
        {
            "version": status.node.version,
            "node": status.node.name,
            "agent": status.wallet.agent or "",
            "model": status.engine.model,
            "device": status.engine.device or "",
            "dtype": status.engine.dtype or "",
            "quantization": status.engine.quantization or "",
            "path": status.engine.path or "",
        },
    )


def _missed(status: Status) -> Iterator[Sample]:
    for code, missed in status.chain.heartbeats_missed:
        yield Sample(missed, {"reason": code})


def _contribution(status: Status) -> Iterator[Sample]:
    for index, word in enumerate(status.chain.contribution):
        yield Sample(float(word), {"word": str(index)})


def _states(status: Status) -> Iterator[Sample]:
    for state in EngineState:
        yield Sample(status.engine.state is state, {"state": state.value})


def _problems(status: Status) -> Iterator[Sample]:
    found = {problem.code: problem.severity.value for problem in problems(status)}
    quiet = {check.name: check.severity.value for check in CHECKS if check.name not in found}
    for code, severity in (found | quiet).items():
        yield Sample(code in found, {"code": code, "severity": severity})


def _plm(wei: int | None) -> float | None:
    return None if wei is None else wei / WEI_PER_PLM


METRICS: tuple[Metric, ...] = (
    Metric("plumise_node_info", "gauge", "What runs here, in the labels; always 1.", _info),
    Metric(
        "plumise_node_start_time_seconds",
        "gauge",
        "When the daemon started, in seconds since the epoch.",
        _one(lambda status: status.node.started_at),
    ),
    Metric(
        "plumise_serving", "gauge", "1 while the engine serves its span, else 0.", _one(lambda status: status.serving)
    ),
    Metric("plumise_problem", "gauge", "1 for each problem that is there, by its reason code.", _problems),
    Metric("plumise_engine_state", "gauge", "1 for the state that the engine is in, 0 for the others.", _states),
    Metric(
        "plumise_engine_restarts_total",
        "counter",
        "How often the engine was started again since the daemon started, as told to or not.",
        _one(lambda status: status.engine.restarts),
    ),
    Metric(
        "plumise_engine_first_block",
        "gauge",
        "First block of the span.",
        _one(lambda status: status.engine.span_start),
    ),
    Metric(
        "plumise_engine_end_block",
        "gauge",
        "Block after the last of the span.",
        _one(lambda status: status.engine.span_end),
    ),
    Metric(
        "plumise_served_requests_total",
        "counter",
        "RPCs served since the ledger began.",
        _by_kind(lambda work: work.requests),
    ),
    Metric(
        "plumise_served_steps_total",
        "counter",
        "Passes of hidden states through the span since the ledger began.",
        _by_kind(lambda work: work.steps),
    ),
    Metric(
        "plumise_served_tokens_total",
        "counter",
        "Tokens served since the ledger began.",
        _by_kind(lambda work: work.tokens),
    ),
    Metric(
        "plumise_service_seconds_total",
        "counter",
        "Time spent computing steps since the ledger began.",
        _by_kind(lambda work: work.service_us / USEC),
    ),
    Metric(
        "plumise_oracle_reports_accepted_total",
        "counter",
        "Reports that the Oracle accepted since the daemon started.",
        _one(lambda status: status.oracle.reports_accepted),
    ),
    Metric(
        "plumise_oracle_tokens_reported",
        "gauge",
        "Tokens in the last report that the Oracle accepted.",
        _one(lambda status: status.oracle.tokens_reported),
    ),
    Metric(
        "plumise_oracle_last_accepted_timestamp_seconds",
        "gauge",
        "When the Oracle last accepted a report, in seconds since the epoch.",
        _one(lambda status: status.oracle.last_accepted_at),
    ),
    Metric(
        "plumise_oracle_proofs_accepted_total",
        "counter",
        "Proofs of requests that the Oracle accepted since the daemon started.",
        _one(lambda status: status.oracle.proofs_accepted),
    ),
    Metric(
        "plumise_oracle_proofs_waiting",
        "gauge",
        "Proofs of requests that the Oracle is not known to have accepted.",
        _one(lambda status: status.oracle.proofs_waiting),
    ),
    Metric(
        "plumise_oracle_clock_skew_seconds",
        "gauge",
        "How far this machine's clock is ahead of the Oracle's.",
        _one(lambda status: status.oracle.clock_skew_s),
    ),
    Metric(
        "plumise_chain_registered",
        "gauge",
        "1 if the agent is registered on chain, 0 if not.",
        _one(lambda status: status.chain.registered),
    ),
    Metric(
        "plumise_chain_balance_plm",
        "gauge",
        "The agent's balance.",
        _one(lambda status: _plm(status.chain.balance_wei)),
    ),
    Metric(
        "plumise_chain_pending_reward_plm",
        "gauge",
        "Rewards that can be claimed.",
        _one(lambda status: _plm(status.chain.pending_reward_wei)),
    ),
    Metric(
        "plumise_chain_heartbeats_total",
        "counter",
        "Heartbeats that were mined since the daemon started.",
        _one(lambda status: status.chain.heartbeats),
    ),
    Metric(
        "plumise_chain_last_heartbeat_timestamp_seconds",
        "gauge",
        "When the last heartbeat was mined, in seconds since the epoch.",
        _one(lambda status: status.chain.last_heartbeat_at),
    ),
    Metric(
        "plumise_chain_heartbeats_missed_total",
        "counter",
        "Heartbeats that were due since the daemon started, but not mined, by the reason's code.",
        _missed,
    ),
    Metric("plumise_chain_epoch", "gauge", "The RewardPool's epoch.", _one(lambda status: status.chain.epoch)),
    Metric("plumise_chain_contribution", "gauge", "The words that the RewardPool keeps of the agent.", _contribution),
    Metric(
        "plumise_chain_in_registry",
        "gauge",
        "1 if the AgentRegistry contract has the agent, 0 if not.",
        _one(lambda status: status.chain.in_registry),
    ),
    Metric(
        "plumise_chain_claims_total",
        "counter",
        "Rewards that were claimed since the daemon started.",
        _one(lambda status: status.chain.claims),
    ),
    Metric(
        "plumise_chain_claimed_plm_total",
        "counter",
        "What those claims brought.",
        _one(lambda status: _plm(status.chain.claimed_wei)),
    ),
    Metric(
        "plumise_chain_proofs_verified_total",
        "counter",
        "Proofs that the chain took since the daemon started.",
        _one(lambda status: status.chain.proofs_verified),
    ),
    Metric(
        "plumise_chain_transactions_pending",
        "gauge",
        "Transactions that were sent and not mined yet.",
        _one(lambda status: status.chain.transactions_pending),
    ),
)
"""Every metric, in the order of the exposition."""
