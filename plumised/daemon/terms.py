"""From the settings to what the parts that credit work go by. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from plumised.chain.claims import ClaimPolicy
from plumised.chain.flight import FlightPolicy
from plumised.chain.proving import ProvingPolicy
from plumised.chain.terms import ChainTerms
from plumised.daemon.announcing import wanted
from plumised.oracle import Dialect, Policy

if TYPE_CHECKING:
    from plumised.config import RewardsSettings, Settings


@dataclass(frozen=True, slots=True)
class ReportingTerms:
    """How work is reported.

    Attributes:
        url: of the Oracle.
        timeout_s: of one request.
        dialect: None finds out which one the Oracle speaks.
        policy: intervals and limits.
    """

    url: str
    timeout_s: float
    dialect: Dialect | None
    policy: Policy


@dataclass(frozen=True, slots=True)
class AnnouncingTerms:
    """How the node is announced.

    Attributes:
        url: of the Oracle.
        timeout_s: of a quick request.
        registration_timeout_s: of the announcement itself.
        endpoint: to announce; None takes the engine's first address that peers can reach.
        model: that is served.
        wanted: whether the node is announced by itself.
    """

    url: str
    timeout_s: float
    registration_timeout_s: float
    endpoint: str | None
    model: str
    wanted: bool


def reporting_terms(settings: Settings) -> ReportingTerms:
    """What the reporter goes by."""
    oracle = settings.oracle
    policy = Policy(interval_s=oracle.interval_s)
    return ReportingTerms(
        url=oracle.url,
        timeout_s=oracle.timeout_s,
        dialect=None if oracle.dialect == "auto" else Dialect(oracle.dialect),
        policy=policy if oracle.proofs else replace(policy, proofs_per_report=0),
    )


def announcing_terms(settings: Settings) -> AnnouncingTerms:
    """What the announcements go by."""
    oracle = settings.oracle
    return AnnouncingTerms(
        url=oracle.url,
        timeout_s=oracle.timeout_s,
        registration_timeout_s=oracle.registration_timeout_s,
        endpoint=oracle.endpoint,
        model=settings.engine.model,
        wanted=wanted(oracle.registration, oracle.endpoint),
    )


def chain_terms(settings: Settings) -> ChainTerms:
    """What the chain's side goes by."""
    chain = settings.chain
    return ChainTerms(
        rpc_urls=chain.rpc_urls,
        model=settings.engine.model,
        fee_cap=chain.max_fee_wei,
        low_balance_wei=chain.low_balance_wei,
        rpc_timeout_s=chain.rpc_timeout_s,
        heartbeat_s=chain.heartbeat_interval_s,
        claiming=claim_policy(settings.rewards),
        proving=ProvingPolicy(chain.verify_per_hour, chain.verify_max_cost_wei) if chain.verify_on_chain else None,
        flight=FlightPolicy(replace_after_s=chain.replace_after_s),
    )


def claim_policy(rewards: RewardsSettings) -> ClaimPolicy:
    """When to claim."""
    return ClaimPolicy(rewards.auto_claim, rewards.threshold_wei, rewards.gas_factor)
