"""Claims rewards from the RewardPool contract: asked first, previewed, and only where more comes in than gas costs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Never

from plumised.chain import calldata
from plumised.chain.events import claimed_wei
from plumised.chain.orders import Confirmed, Failed, Order, Outcome, Purpose
from plumised.chain.problem_board import ProblemBoard, Source
from plumised.chain.problems import ChainProblem
from plumised.chain.reader import CallFailed
from plumised.chain.rewards import read_pending
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told

if TYPE_CHECKING:
    from plumised.chain.reader import ChainReader
    from plumised.chain.registry import AgentRegistry
    from plumised.chain.timing import Timing
    from plumised.chain.transactions import TransactionQueue

_log = logging.getLogger(__name__)

CLAIM_GAS: Final = 100_000
"""Limit of `claimReward()` at the RewardPool; it uses about 60 000."""

_NO_FAULT: Final = {"rewards-none", "claim-not-worthwhile"}
"""Reasons not to claim that need nobody's attention."""


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """When to claim.

    Attributes:
        automatic: whether to claim without being told.
        threshold_wei: reward from which that is done.
        gain_factor: how many times its highest possible cost a reward must be for that.
        look_s: between two looks, in seconds.
        longest_retry_s: after failures, at most.
    """

    automatic: bool = False
    threshold_wei: int = 10**18
    gain_factor: float = 10.0
    look_s: float = 60.0
    longest_retry_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Claimable:
    """A claim that would succeed.

    Attributes:
        wei: that it would bring.
        highest_cost_wei: that it could cost under `fee_cap`, were all of its gas used.
        fee_cap: wei per gas under which it is worth it.
    """

    wei: int
    highest_cost_wei: int
    fee_cap: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was mined.

    Attributes:
        wei: what came in, as the contract's event says; None where it says nothing.
        hash: of the transaction.
        cost_wei: of it.
    """

    wei: int | None
    hash: str
    cost_wei: int


@dataclass(frozen=True, slots=True)
class ClaimTally:
    """The claims of this process, those that an earlier one signed included.

    Attributes:
        count: mined.
        wei: that they brought.
        last: the last of them, or None.
        last_at: when it became known, seconds since the epoch, or None.
    """

    count: int = 0
    wei: int = 0
    last: Claimed | None = None
    last_at: float | None = None


def worth(pending_wei: int, asked: int, fee_cap: int, factor: float) -> Claimable | ChainProblem:
    """Return whether a claim pays. Pure.

    Args:
        pending_wei: what it would bring.
        asked: wei per gas that the next block asks.
        fee_cap: wei per gas that no transaction exceeds.
        factor: how many times its highest possible cost the reward must be at least.
    """
    if pending_wei == 0:
        return ChainProblem("rewards-none", "There is no reward to claim", "Rewards lag one epoch behind the work.")
    cap = min(fee_cap, int(pending_wei / (factor * CLAIM_GAS)))
    if asked > cap:
        return ChainProblem(
            "claim-not-worthwhile",
            f"A reward of {pending_wei} wei is not worth a claim: {CLAIM_GAS} gas at {asked} wei each can cost"
            f" {CLAIM_GAS * asked} wei, and at most {CLAIM_GAS * cap} are to be spent on it",
            "Wait for more rewards or lower fees, or change rewards.gas_factor or chain.max_fee_gwei.",
        )
    return Claimable(pending_wei, CLAIM_GAS * cap, cap)


class Claims:
    """Claims what the RewardPool owes the agent.

    Args:
        queue: sends the transaction.
        chain: the endpoints.
        pool: address of the RewardPool contract.
        agent: checksummed address.
        registry: the AgentRegistry contract, which must have the agent; None where there is none.
        fee_cap: wei per gas that no transaction exceeds.
        policy: when to claim.
        board: is told what is wrong.
        timing: time and chance.

    Attributes:
        tally: what was claimed.
        note: why the last automatic claim was not made, or None.
    """

    def __init__(  # noqa: PLR0913 # what a claim is weighed by, all by keyword
        self,
        *,
        queue: TransactionQueue,
        chain: ChainReader,
        pool: str,
        agent: str,
        registry: AgentRegistry | None,
        fee_cap: int,
        policy: ClaimPolicy,
        board: ProblemBoard,
        timing: Timing,
    ) -> None:
        self.tally = ClaimTally()
        self.note: ChainProblem | None = None
        self._queue = queue
        self._chain = chain
        self._pool = pool
        self._agent = agent
        self._registry = registry
        self._fee_cap = fee_cap
        self._policy = policy
        self._board = board
        self._timing = timing

    def adopt(self, policy: ClaimPolicy, fee_cap: int) -> None:
        """Claim by this policy and under this cap from the next look on."""
        self._policy, self._fee_cap = policy, fee_cap

    async def run(self) -> Never:
        """Claim what is due until cancelled, where that is to be done. May be called again."""
        failures = 0
        while True:
            pause_s = self._policy.look_s
            self.note = await self._claim_if_due() if self._policy.automatic else None
            failed = self.note is not None and self.note.code not in _NO_FAULT
            if failed and self.note is not None:
                pause_s = self._timing.backoff_s(failures, pause_s, self._policy.longest_retry_s)
                self.note = replace(self.note, retry_at=self._timing.clock() + pause_s)
            failures = failures + 1 if failed else 0
            self._board.report(Source.CLAIM, self.note if failed else None)
            await self._timing.sleep(pause_s)

    async def preview(self, factor: float = 1.0) -> Claimable | ChainProblem:
        """Find out whether a claim would succeed and pay; costs nothing.

        Args:
            factor: how many times its highest possible cost the reward must be at least.

        Raises:
            RpcError: the chain cannot be asked.
        """
        pending = await read_pending(self._chain, self._pool, self._agent)
        if pending and self._registry is not None and (await self._registry.standing()).registered is False:
            return ChainProblem(
                "registry-missing",
                f"The AgentRegistry contract does not have {self._agent}, so the RewardPool does not pay it",
                "Run plumised register --registry.",
            )
        if pending:
            simulated = await self._chain.call(self._pool, calldata.CLAIM_REWARD, sender=self._agent, gas=CLAIM_GAS)
            if isinstance(simulated, CallFailed):
                return ChainProblem(
                    "claim-would-fail",
                    f"The RewardPool would refuse the claim of {pending} wei: {simulated.text}",
                    "See what it says; plumised rewards shows what the AgentRegistry still needs.",
                )
        return worth(pending, (await self._chain.fee_market()).asked, self._fee_cap, factor)

    async def claim(self, factor: float = 1.0) -> Claimed | ChainProblem:
        """Claim, if that would succeed and pays.

        Args:
            factor: how many times its highest possible cost the reward must be at least.

        Raises:
            RpcError: the chain cannot be asked; nothing was sent.
        """
        claimable = await self.preview(factor)
        if isinstance(claimable, ChainProblem):
            return claimable
        order = Order(
            Purpose.CLAIM,
            self._pool,
            calldata.CLAIM_REWARD,
            CLAIM_GAS,
            depth=Purpose.CLAIM.depth,
            fee_cap=claimable.fee_cap,
        )
        try:
            outcome = await self._queue.submit(order)
        except PlumisedError as error:
            return ChainProblem.of(error)
        return self.settled(outcome)

    def settled(self, outcome: Outcome) -> Claimed | ChainProblem:
        """Count a claim that has come to its end."""
        if isinstance(outcome, Failed):
            return outcome.problem
        if not isinstance(outcome, Confirmed):
            return ChainProblem(
                "claim-reverted", f"The claim was mined and failed: {outcome.hash}", "Look the transaction up."
            )
        claimed = Claimed(claimed_wei(outcome.events, self._pool, self._agent), outcome.hash, outcome.cost_wei)
        self.tally = ClaimTally(
            self.tally.count + 1, self.tally.wei + (claimed.wei or 0), claimed, self._timing.clock()
        )
        brought = "an amount that it does not tell" if claimed.wei is None else f"{claimed.wei} wei"
        reward = told(LogEvent.REWARD_CLAIMED, transaction=claimed.hash)
        _log.info("claimed %s for %d wei of gas: %s", brought, claimed.cost_wei, claimed.hash, extra=reward)
        return claimed

    async def _claim_if_due(self) -> ChainProblem | None:
        try:
            pending = await read_pending(self._chain, self._pool, self._agent)
            if pending < max(1, self._policy.threshold_wei):
                return None
            answer = await self.claim(self._policy.gain_factor)
        except PlumisedError as error:
            return ChainProblem.of(error)
        return answer if isinstance(answer, ChainProblem) else None
