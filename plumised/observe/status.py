"""The status snapshot: what is known of the node at one moment, as frozen data.

Times (`…_at`, `since`) are seconds since the epoch by the system clock; None stands for never, not known or not
scheduled. What is wrong is not part of the facts: `plumised.observe.checks` derives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class EngineState(StrEnum):
    """What the supervisor does with the engine."""

    IDLE = "idle"
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that a part of the node reports about itself.

    Attributes:
        code: stable identifier, documented in docs/reasons.md.
        message: what happened, with the values concerned, without secrets.
        remedy: what the operator can do.
        since: when it began.
        next_try_at: when it is tried again by itself; past while that try is under way.
        lines: the last lines of output that tell the cause, oldest first.
    """

    code: str
    message: str
    remedy: str
    since: float | None = None
    next_try_at: float | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The daemon itself.

    Attributes:
        pid: the daemon's process.
        started_at: when the daemon started.
        stopping: whether it was told to stop.
        trouble: what is wrong with its own files: ledger, sockets.
    """

    name: str
    version: str
    pid: int
    started_at: float
    stopping: bool = False
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class LayerStatus:
    """One layer of the engine's sandbox.

    Attributes:
        name: a word of `ipc.messages.LayerName`.
        active: whether it is in force.
        detail: by what, or why not.
    """

    name: str
    active: bool
    detail: str


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """What confines the engine.

    Attributes:
        mode: as configured.
        layers: all of them; none in mode `off`.
        overlaps: what ought to be hidden from the engine and is not, with the reason.
    """

    mode: str
    layers: tuple[LayerStatus, ...] = ()
    overlaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The engine.

    Attributes:
        state: what the supervisor does.
        model: as configured.
        since: when the state was entered.
        phase: what the engine itself says it does, a word of `ipc.messages.Phase`.
        blocks_loaded: while loading, how many of `blocks_to_load` are loaded.
        span_start: first block.
        span_end: block after the last.
        total_blocks: blocks of the model.
        device: as torch names it.
        dtype: of the computation.
        quantization: of the weights, `none`, `int8` or `nf4`.
        path: who computes short steps: `kernel-avx512`, `kernel-avx2`, `eager` or `petals`.
        incarnation: identifier of this life.
        pid: the engine's main process.
        restarts: how often it was started again since the daemon started, as told to or not.
        next_try_at: when it is started again, in `backoff` and `failed`.
        stuck: component that makes no progress.
        sandbox: what confines it; None until it has said so.
        failure: why the last life ended.
    """

    state: EngineState
    model: str
    since: float
    phase: str | None = None
    blocks_loaded: int | None = None
    blocks_to_load: int | None = None
    span_start: int | None = None
    span_end: int | None = None
    total_blocks: int | None = None
    peer_id: str | None = None
    addresses: tuple[str, ...] = ()
    device: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    path: str | None = None
    handlers: int | None = None
    incarnation: str | None = None
    pid: int | None = None
    restarts: int = 0
    next_try_at: float | None = None
    stuck: str | None = None
    sandbox: SandboxStatus | None = None
    failure: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Work of one kind, or of all.

    Attributes:
        tokens: batch size times sequence length through the span.
        service_us: microseconds of computing, summed over the steps.
    """

    requests: int = 0
    steps: int = 0
    tokens: int = 0
    service_us: int = 0


@dataclass(frozen=True, slots=True)
class UsageStatus:
    """The ledger's durable totals over all incarnations."""

    inference: Work = field(default_factory=Work)
    forward: Work = field(default_factory=Work)
    backward: Work = field(default_factory=Work)

    @property
    def total(self) -> Work:
        """The sum over the kinds."""
        kinds = (self.inference, self.forward, self.backward)
        return Work(
            sum(kind.requests for kind in kinds),
            sum(kind.steps for kind in kinds),
            sum(kind.tokens for kind in kinds),
            sum(kind.service_us for kind in kinds),
        )


@dataclass(frozen=True, slots=True)
class OracleStatus:
    """Reports to the Oracle.

    Attributes:
        interval_s: seconds between reports, as configured.
        dialect: what the Oracle was found to speak.
        last_accepted_at: when it last accepted a report.
        reports_accepted: how many it accepted since the daemon started.
        tokens_reported: tokens in the last accepted report.
        requests_reported: requests in it.
        proofs_waiting: proofs that it is not known to have taken.
        proofs_accepted: proofs that it took since the daemon started.
        clock_skew_s: how far our clock is ahead of the Oracle's.
        trouble: why the last report was not accepted.
        announcing: why it did not take the last announcement of the node.
    """

    enabled: bool
    url: str
    interval_s: float
    dialect: str | None = None
    last_accepted_at: float | None = None
    reports_accepted: int = 0
    tokens_reported: int = 0
    requests_reported: int = 0
    proofs_waiting: int = 0
    proofs_accepted: int = 0
    clock_skew_s: float | None = None
    trouble: Trouble | None = None
    announcing: Trouble | None = None


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """The transaction that is on its way.

    Attributes:
        purpose: what it is for.
        nonce: of the agent.
        hash: of its last signed form.
        attempts: signed forms so far; each after the first pays more.
        since: when the first was signed.
        given_up: whether it is only watched any more.
    """

    purpose: str
    nonce: int
    hash: str
    attempts: int
    since: float
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """The agent on chain. Amounts are in wei.

    Attributes:
        heartbeats_due: whether heartbeats are to be sent at this time.
        registered: what the chain says; None if it could not be asked.
        balance_wei: of the agent.
        low_balance_wei: below which to warn.
        last_heartbeat_at: when the last heartbeat was mined.
        last_heartbeat_tx: its transaction.
        heartbeats: how many were mined since the daemon started.
        heartbeats_missed: how many were due since then, but not mined, by the code of the reason.
        last_missed: why the last one that was due is missing.
        pending_reward_wei: what the RewardPool would pay.
        epoch: of the RewardPool.
        contribution: the words that the RewardPool keeps of the agent.
        in_registry: whether the AgentRegistry contract has the agent; None where there is none.
        registry_active: whether it has heard of it lately.
        claims: rewards claimed since the daemon started.
        claimed_wei: what they brought.
        last_claim_tx: transaction of the last one.
        claim_note: why the reward is not claimed by itself, where one is due.
        proofs_verified: proofs that precompile 0x20 took since the daemon started.
        transactions_pending: sent, not mined.
        transaction: the one on its way.
        troubles: why something on chain could not be done, gravest first.
    """

    enabled: bool
    chain_id: int
    heartbeats_due: bool = False
    registered: bool | None = None
    balance_wei: int | None = None
    low_balance_wei: int = 0
    pending_reward_wei: int | None = None
    last_heartbeat_at: float | None = None
    last_heartbeat_tx: str | None = None
    heartbeats: int = 0
    heartbeats_missed: tuple[tuple[str, int], ...] = ()
    last_missed: Trouble | None = None
    epoch: int | None = None
    contribution: tuple[int, ...] = ()
    in_registry: bool | None = None
    registry_active: bool | None = None
    claims: int = 0
    claimed_wei: int = 0
    last_claim_tx: str | None = None
    claim_note: Trouble | None = None
    proofs_verified: int = 0
    transactions_pending: int = 0
    transaction: TransactionStatus | None = None
    troubles: tuple[Trouble, ...] = ()

    @property
    def missed(self) -> int:
        """How many heartbeats were missed, whatever the reason."""
        return sum(count for _, count in self.heartbeats_missed)


@dataclass(frozen=True, slots=True)
class WalletStatus:
    """The wallet: its address and file, nothing else."""

    agent: str | None = None
    keystore: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """All that is known of the node at the time `at`."""

    at: float
    node: NodeStatus
    engine: EngineStatus
    usage: UsageStatus
    oracle: OracleStatus
    chain: ChainStatus
    wallet: WalletStatus

    @property
    def serving(self) -> bool:
        """Whether the node serves its span at this time."""
        return self.engine.state is EngineState.SERVING and self.engine.stuck is None
