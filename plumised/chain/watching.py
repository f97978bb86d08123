"""Looks now and then at what the agent has: balance, rewards, its place in the AgentRegistry, the endpoints."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Never

from plumised.chain.addresses import HEARTBEAT_GAS
from plumised.chain.problem_board import ProblemBoard, Source
from plumised.chain.problems import ChainProblem
from plumised.chain.rewards import Rewards, RewardsUnreadableError, read_rewards
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from plumised.chain.reader import ChainReader
    from plumised.chain.registry import AgentRegistry, Standing
    from plumised.chain.rpc import Rpc
    from plumised.chain.timing import Timing


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """How often, in seconds.

    Attributes:
        watch_s: between two looks.
        first_retry_s: after the first failure; doubles with each, up to `watch_s`.
        low_balance_wei: balance from which it is called low.
    """

    watch_s: float
    first_retry_s: float
    low_balance_wei: int


class Watch:
    """What the agent has.

    Args:
        agent: checksummed address.
        rpc: the endpoints.
        chain: the same, to be asked.
        reward_pool: address of the RewardPool contract.
        registry: the AgentRegistry contract, or None.
        board: is told what is wrong.
        policy: how often.
        timing: time and chance.

    Attributes:
        balance_wei, block_number, rewards, standing: as of the last look; None before it or where it failed.
    """

    def __init__(
        self,
        agent: str,
        rpc: Rpc,
        chain: ChainReader,
        *,
        reward_pool: str,
        registry: AgentRegistry | None,
        board: ProblemBoard,
        policy: WatchPolicy,
        timing: Timing,
    ) -> None:
        self.balance_wei: int | None = None
        self.block_number: int | None = None
        self.rewards: Rewards | None = None
        self.standing: Standing | None = None
        self._agent = agent
        self._rpc = rpc
        self._chain = chain
        self._reward_pool = reward_pool
        self._registry = registry
        self._board = board
        self._policy = policy
        self._timing = timing

    def adopt(self, low_balance_wei: int) -> None:
        """Call a balance low from this limit on, with the next look."""
        self._policy = replace(self._policy, low_balance_wei=low_balance_wei)

    async def run(self) -> Never:
        """Look until cancelled. May be called again."""
        failures = 0
        while True:
            try:
                await self._look()
                failures = 0
                pause_s = self._policy.watch_s
                self._board.report(Source.ENDPOINTS, self._behind())
            except PlumisedError as error:
                pause_s = self._timing.backoff_s(failures, self._policy.first_retry_s, self._policy.watch_s)
                failures += 1
                self._board.report(Source.ENDPOINTS, ChainProblem.of(error, self._timing.clock() + pause_s))
            await self._timing.sleep(pause_s)

    async def _look(self) -> None:
        self.balance_wei = await self._chain.balance(self._agent)
        self.block_number = (await self._chain.latest_block()).number
        price = (await self._chain.fee_market()).gas_price
        self._board.report(Source.BALANCE, self._low_balance(self.balance_wei, price))
        self.standing = await self._registry.standing() if self._registry is not None else None
        try:
            self.rewards = await read_rewards(self._chain, self._reward_pool, self._agent)
        except RewardsUnreadableError as error:
            self.rewards = None
            self._board.report(Source.REWARDS, ChainProblem.of(error, self._timing.clock() + self._policy.watch_s))
        else:
            self._board.report(Source.REWARDS, None)

    def _low_balance(self, balance_wei: int, price: int) -> ChainProblem | None:
        """Return that the balance is low; not where the chain is free of charge."""
        if price == 0 or balance_wei >= self._policy.low_balance_wei:
            return None
        return ChainProblem(
            "balance-low",
            f"{self._agent} has {balance_wei} wei, less than {self._policy.low_balance_wei}: enough for"
            f" {balance_wei // (HEARTBEAT_GAS * price)} heartbeats at {price} wei per gas",
            f"Send PLM to {self._agent}.",
        )

    def _behind(self) -> ChainProblem | None:
        """Return that every endpoint which answers shows an old block."""
        status = self._rpc.status()
        used = next((endpoint for endpoint in status.endpoints if endpoint.name == status.in_use), None)
        if used is None or used.behind_s is None:
            return None
        return ChainProblem(
            "rpc-behind",
            f"The latest block of {used.name} was {used.behind_s} s old by this machine's clock",
            "Wait until the endpoint has caught up, add another one to chain.rpc_urls, and check the clock.",
        )
