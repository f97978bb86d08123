"""Puts the snapshots of the parts together to the status that everybody outside sees. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plumised.engine.health import Stuck
from plumised.observe.status import (
    ChainStatus,
    EngineState,
    EngineStatus,
    LayerStatus,
    OracleStatus,
    SandboxStatus,
    Status,
    TransactionStatus,
    Trouble,
    UsageStatus,
    WalletStatus,
    Work,
)

if TYPE_CHECKING:
    from plumised.chain.problems import ChainProblem
    from plumised.chain.snapshot import ChainSnapshot
    from plumised.config import Settings
    from plumised.engine.snapshot import EngineSnapshot
    from plumised.ipc.messages import Counters, Sandbox
    from plumised.ledger import LedgerHealth, Totals
    from plumised.observe.status import NodeStatus
    from plumised.oracle import ReporterSnapshot


@dataclass(frozen=True, slots=True)
class Parts:
    """What the parts say of themselves at one moment. None stands for a part that is switched off or has not started.

    Attributes:
        agent: address of the wallet.
        oracle_fault, chain_fault: a defect of the program that stopped the part for a while.
        announcing: why the Oracle has not taken the node's announcement.
    """

    engine: EngineSnapshot
    totals: Totals
    ledger: LedgerHealth
    reporter: ReporterSnapshot | None
    chain: ChainSnapshot | None
    agent: str | None
    oracle_fault: Trouble | None = None
    chain_fault: Trouble | None = None
    announcing: Trouble | None = None


def status_of(at: float, node: NodeStatus, settings: Settings, parts: Parts) -> Status:
    """The whole status.

    Args:
        at: seconds since the epoch.
        node: the daemon itself.
        settings: as configured.
        parts: what the parts say.
    """
    return Status(
        at=at,
        node=node,
        engine=_engine(at, settings, parts.engine),
        usage=UsageStatus(
            inference=_work(parts.totals.inference),
            forward=_work(parts.totals.forward),
            backward=_work(parts.totals.backward),
        ),
        oracle=replace(_oracle(settings, parts.reporter, parts.oracle_fault), announcing=parts.announcing),
        chain=_chain(settings, parts),
        wallet=WalletStatus(parts.agent, str(settings.wallet.keystore) if parts.agent else None),
    )


def ledger_trouble(health: LedgerHealth) -> Trouble | None:
    """What is wrong with the ledger."""
    if health.unwritten:
        return Trouble(
            "ledger-unavailable",
            f"The disk refuses the ledger; the newest counters of {health.unwritten} handlers are in memory only",
            "Free space on the disk of node.state_dir, or repair it. Nothing is lost while daemon and engine run.",
        )
    if health.set_aside is not None:
        return Trouble(
            "ledger-damaged",
            f"The ledger was damaged; it is kept as {health.set_aside} and a new one was begun",
            "Have a look at the disk. The node goes on from what Oracle and chain know.",
        )
    return None


def _work(counters: Counters) -> Work:
    return Work(counters.requests, counters.steps, counters.tokens, counters.service_us)


def _engine(at: float, settings: Settings, engine: EngineSnapshot) -> EngineStatus:
    next_try_at = None if engine.next_try_s is None else at + engine.next_try_s
    cause = engine.cause
    return EngineStatus(
        state=EngineState(engine.state.value),
        model=settings.engine.model,
        since=at - engine.state_s,
        phase=engine.phase.value if engine.phase else None,
        blocks_loaded=engine.block,
        blocks_to_load=engine.blocks,
        span_start=engine.start,
        span_end=engine.end,
        total_blocks=engine.total_blocks,
        peer_id=engine.peer_id,
        addresses=engine.addresses,
        device=engine.device,
        dtype=engine.dtype,
        quantization=engine.quantization,
        path=engine.path,
        handlers=engine.handlers,
        incarnation=engine.incarnation,
        pid=engine.pid,
        restarts=engine.restarts,
        next_try_at=next_try_at,
        stuck=engine.health.component if isinstance(engine.health, Stuck) else None,
        sandbox=_sandbox(settings, engine.sandbox),
        failure=None
        if cause is None
        else Trouble(cause.code, cause.message, cause.remedy, None, next_try_at, cause.evidence),
    )


def _sandbox(settings: Settings, sandbox: Sandbox | None) -> SandboxStatus | None:
    if sandbox is None:
        return None
    layers = tuple(LayerStatus(each.name.value, each.active, each.detail) for each in sandbox.layers)
    return SandboxStatus(settings.engine.sandbox, layers, sandbox.overlaps)


def _oracle(settings: Settings, reporter: ReporterSnapshot | None, fault: Trouble | None) -> OracleStatus:
    oracle = settings.oracle
    if reporter is None:
        return OracleStatus(oracle.enabled, oracle.url, oracle.interval_s, trouble=fault)
    problem = reporter.problem
    trouble = fault
    if problem is not None and trouble is None:
        told = problem.trouble
        trouble = Trouble(told.code, told.message, told.remedy, problem.since, problem.next_try_at)
    return OracleStatus(
        enabled=oracle.enabled,
        url=oracle.url,
        interval_s=oracle.interval_s,
        dialect=reporter.dialect.value if reporter.dialect_found else None,
        last_accepted_at=reporter.accepted.at if reporter.accepted else None,
        reports_accepted=reporter.accepted.count if reporter.accepted else 0,
        tokens_reported=reporter.reported.tokens,
        requests_reported=reporter.reported.requests,
        clock_skew_s=reporter.clock_skew_s,
        proofs_waiting=reporter.proofs_waiting,
        proofs_accepted=reporter.proofs_accepted,
        trouble=trouble,
    )


def _chain(settings: Settings, parts: Parts) -> ChainStatus:
    configured, chain = settings.chain, parts.chain
    due = configured.enabled and (configured.heartbeat_when == "always" or parts.engine.serving)
    faults = () if parts.chain_fault is None else (parts.chain_fault,)
    if chain is None:
        return ChainStatus(configured.enabled, configured.chain_id, due, troubles=faults)
    rewards, standing, flying = chain.rewards, chain.standing, chain.queue.in_flight
    return ChainStatus(
        enabled=True,
        chain_id=chain.chain_id,
        heartbeats_due=due,
        registered=chain.registered,
        balance_wei=chain.balance_wei,
        low_balance_wei=configured.low_balance_wei,
        pending_reward_wei=rewards.pending_wei if rewards else None,
        last_heartbeat_at=chain.pulse.last_at,
        last_heartbeat_tx=chain.pulse.last_hash,
        heartbeats=chain.pulse.confirmed,
        heartbeats_missed=chain.pulse.missed_by,
        last_missed=_trouble(chain.pulse.last_missed),
        epoch=rewards.epoch if rewards else None,
        contribution=rewards.contribution if rewards else (),
        in_registry=standing.registered if standing else None,
        registry_active=standing.active if standing else None,
        claims=chain.claims.count,
        claimed_wei=chain.claims.wei,
        last_claim_tx=chain.claims.last.hash if chain.claims.last else None,
        claim_note=_trouble(chain.claim_note),
        proofs_verified=chain.proofs.verified,
        transactions_pending=(flying is not None) + chain.queue.waiting,
        transaction=None
        if flying is None
        else TransactionStatus(
            flying.purpose, flying.nonce, flying.hash, flying.attempts, flying.since, flying.given_up
        ),
        troubles=(
            *faults,
            *(Trouble(each.code, each.message, each.remedy, None, each.retry_at) for each in chain.problems),
        ),
    )


def _trouble(problem: ChainProblem | None) -> Trouble | None:
    if problem is None:
        return None
    return Trouble(problem.code, problem.message, problem.remedy, None, problem.retry_at)
