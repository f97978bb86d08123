"""What the chain's side shows of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumised.chain.claims import ClaimTally
    from plumised.chain.problems import ChainProblem
    from plumised.chain.proving import ProvingTally
    from plumised.chain.pulse import Pulse
    from plumised.chain.registry import Standing
    from plumised.chain.rewards import Rewards
    from plumised.chain.rpc import RpcStatus
    from plumised.chain.transactions import QueueStatus


@dataclass(frozen=True, slots=True)
class ChainSnapshot:
    """The chain's side at one moment. What is None was not measured yet.

    Attributes:
        agent: checksummed address.
        chain_id: of the chain.
        registered: what the chain said last of the agent's registration.
        registered_by: who said so, for people.
        registration_hash: this node's own registration, where it made one.
        balance_wei: of the agent.
        balance_low: whether it is below the limit while the chain asks fees.
        block_number: the latest one seen.
        pulse: the heartbeats of this process.
        rewards: what the RewardPool says.
        standing: what the AgentRegistry contract says, where there is one.
        claims: what was claimed.
        claim_note: why the last automatic claim was not made, where one was due.
        proofs: what was sent to 0x20.
        rpc: the endpoints.
        queue: the transaction queue.
        problems: what is wrong at the moment, gravest first; empty on a good day.
    """

    agent: str
    chain_id: int
    registered: bool | None
    registered_by: str | None
    registration_hash: str | None
    balance_wei: int | None
    balance_low: bool
    block_number: int | None
    pulse: Pulse
    rewards: Rewards | None
    standing: Standing | None
    claims: ClaimTally
    claim_note: ChainProblem | None
    proofs: ProvingTally
    rpc: RpcStatus
    queue: QueueStatus
    problems: tuple[ChainProblem, ...]
