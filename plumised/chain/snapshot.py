"""What the chain's side shows of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plumised.chain.problems import ChainProblem
    from plumised.chain.pulse import Pulse
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
    rpc: RpcStatus
    queue: QueueStatus
    problems: tuple[ChainProblem, ...]
