"""What the chain's side goes by and may be given anew while it works."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from plumised.chain.claims import ClaimPolicy
from plumised.chain.flight import FlightPolicy

if TYPE_CHECKING:
    from plumised.chain.proving import ProvingPolicy


@dataclass(frozen=True, slots=True)
class ChainTerms:
    """What an operator may change without a break.

    Attributes:
        rpc_urls: endpoints of the chain, the preferred one first.
        model: name of the served model.
        fee_cap: wei per gas that no transaction exceeds.
        low_balance_wei: balance from which it is called low.
        rpc_timeout_s: for a call to one endpoint.
        heartbeat_s: between heartbeats.
        claiming: when to claim rewards.
        proving: pace and cost of proofs on chain; None where none are sent.
        flight: of the transaction queue.
    """

    rpc_urls: tuple[str, ...]
    model: str
    fee_cap: int
    low_balance_wei: int = 0
    rpc_timeout_s: float = 10.0
    heartbeat_s: float = 120.0
    claiming: ClaimPolicy = field(default_factory=ClaimPolicy)
    proving: ProvingPolicy | None = None
    flight: FlightPolicy = field(default_factory=FlightPolicy)
