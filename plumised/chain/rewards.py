"""What the RewardPool contract says of the agent. Reading only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.chain import calldata
from plumised.chain.reader import CallFailed
from plumised.chain.rpc_errors import RpcError

if TYPE_CHECKING:
    from plumised.chain.reader import ChainReader


class RewardsUnreadableError(RpcError):
    """The RewardPool contract does not answer as it should, or is not there."""

    code = "rewards-unreadable"


@dataclass(frozen=True, slots=True)
class Rewards:
    """What the RewardPool says.

    Attributes:
        pending_wei: what could be claimed.
        epoch: the current one; rewards lag one epoch behind.
        contribution: the six words of `getContribution`, as they are.
    """

    pending_wei: int
    epoch: int
    contribution: tuple[int, ...]


async def read_rewards(chain: ChainReader, pool: str, agent: str) -> Rewards:
    """Ask the RewardPool contract at `pool`.

    Raises:
        RpcError: the chain cannot be asked; RewardsUnreadableError where the contract does not answer.
    """
    pending = await read_pending(chain, pool, agent)
    epoch = await _words(chain, pool, calldata.GET_CURRENT_EPOCH, agent, 1)
    contribution = await _words(
        chain, pool, calldata.of_address(calldata.GET_CONTRIBUTION, agent), agent, calldata.CONTRIBUTION_WORDS
    )
    return Rewards(pending, epoch[0], contribution)


async def read_pending(chain: ChainReader, pool: str, agent: str) -> int:
    """Ask the RewardPool contract at `pool` what could be claimed, in wei. Raises as `read_rewards`."""
    return (await _words(chain, pool, calldata.of_address(calldata.GET_PENDING_REWARD, agent), agent, 1))[0]


async def _words(chain: ChainReader, pool: str, data: bytes, agent: str, count: int) -> tuple[int, ...]:
    answer = await chain.call(pool, data, sender=agent)
    words = None if isinstance(answer, CallFailed) else calldata.read_words(answer, count)
    if words is None:
        said = answer.text if isinstance(answer, CallFailed) else f"{len(answer)} bytes"
        raise RewardsUnreadableError(
            f"The RewardPool contract at {pool} does not answer: {said}", "Correct chain.reward_pool."
        )
    return words
