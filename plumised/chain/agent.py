"""The owner of the chain's side: keeps the agent registered and alive, and watches what it has.

Nothing that the chain does ends it: every bad day is a problem in the snapshot, with the time of the next try.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from plumised.chain.addresses import HEARTBEAT_GAS, REWARD_POOL
from plumised.chain.heartbeat import Heartbeats
from plumised.chain.problems import ChainProblem
from plumised.chain.pursuit import TransactionStore
from plumised.chain.reader import ChainReader
from plumised.chain.registration import Facts, Registered, Registrar
from plumised.chain.rewards import Rewards, RewardsUnreadableError, read_rewards
from plumised.chain.rpc import Rpc
from plumised.chain.snapshot import ChainSnapshot
from plumised.chain.timing import Timing
from plumised.chain.transactions import TransactionQueue
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from plumised.chain.flight import FlightPolicy
    from plumised.chain.wallet import Wallet

_log = logging.getLogger(__name__)


class ChainStore(TransactionStore, Facts, Protocol):
    """What the chain's side keeps across restarts; the ledger."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often things happen, in seconds.

    Attributes:
        heartbeat_s: between heartbeats.
        recheck_s: between two questions whether the agent is still registered.
        visible_s: how long a registration may take to show.
        first_retry_s: after the first failure; doubles with each.
        longest_retry_s: at most.
        watch_s: between two looks at balance and rewards.
        tick_s: between two looks at what is due.
    """

    heartbeat_s: float = 120.0
    recheck_s: float = 600.0
    visible_s: float = 30.0
    first_retry_s: float = 5.0
    longest_retry_s: float = 300.0
    watch_s: float = 60.0
    tick_s: float = 1.0


class _Source(StrEnum):
    """Where a problem comes from, gravest first."""

    REGISTRATION = "registration"
    BALANCE = "balance"
    ENDPOINTS = "endpoints"
    REWARDS = "rewards"


class ChainAgent:
    """Registration, heartbeats, balance and rewards of one agent.

    Args:
        wallet: the agent.
        store: the ledger.
        rpc_urls: endpoints of the chain, the preferred one first.
        chain_id: that they must serve.
        model: name of the served model.
        serving: whether heartbeats are true at the moment.
        fee_cap: wei per gas that no transaction exceeds.
        low_balance_wei: balance from which it is called low.
        registry: address of the AgentRegistry contract, or None.
        reward_pool: address of the RewardPool contract.
        sponsor: has the agent registered at somebody else's cost, or raises PlumisedError; None where nobody would.
        rpc_timeout_s: for a call to one endpoint.
        rhythm: how often things happen.
        policy: of the transaction queue.
        timing: time and chance.
    """

    def __init__(  # noqa: PLR0913 # a composition root's worth of plain values, all by keyword
        self,
        *,
        wallet: Wallet,
        store: ChainStore,
        rpc_urls: Sequence[str],
        chain_id: int,
        model: str,
        serving: Callable[[], bool],
        fee_cap: int,
        low_balance_wei: int = 0,
        registry: str | None = None,
        reward_pool: str = REWARD_POOL,
        sponsor: Callable[[], Awaitable[None]] | None = None,
        rpc_timeout_s: float = 10.0,
        rhythm: Rhythm | None = None,
        policy: FlightPolicy | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._agent = wallet.address
        self._low_balance_wei = low_balance_wei
        self._reward_pool = reward_pool
        self._rhythm = rhythm or Rhythm()
        self._timing = timing or Timing()
        self._rpc = Rpc(rpc_urls, chain_id, timeout_s=rpc_timeout_s, timing=self._timing)
        self._chain = ChainReader(self._rpc)
        self._queue = TransactionQueue(wallet, self._chain, store, fee_cap=fee_cap, policy=policy, timing=self._timing)
        self._registrar = Registrar(
            self._agent, model, self._chain, self._queue, store, registry=registry, sponsor=sponsor
        )
        self._wake = asyncio.Event()
        self._registered: Registered | None = None
        self._registration_hash: str | None = None
        self._heartbeats = Heartbeats(
            self._queue,
            interval_s=self._rhythm.heartbeat_s,
            tick_s=self._rhythm.tick_s,
            serving=serving,
            registered=self._is_registered,
            refused=self._doubt_registration,
            timing=self._timing,
        )
        self._balance_wei: int | None = None
        self._block_number: int | None = None
        self._rewards: Rewards | None = None
        self._problems: dict[_Source, ChainProblem] = {}

    def snapshot(self) -> ChainSnapshot:
        """Return what is known, from memory."""
        queue = self._queue.status()
        found = [*(self._problems.get(source) for source in _Source), self._heartbeats.problem(), queue.problem]
        problems = {problem.message: problem for problem in found if problem is not None}
        registered = self._registered
        return ChainSnapshot(
            agent=self._agent,
            chain_id=self._chain.chain_id,
            registered=registered.yes if registered is not None else None,
            registered_by=registered.source.value if registered is not None else None,
            registration_hash=self._registration_hash,
            balance_wei=self._balance_wei,
            balance_low=_Source.BALANCE in self._problems,
            block_number=self._block_number,
            pulse=self._heartbeats.pulse,
            rewards=self._rewards,
            rpc=self._rpc.status(),
            queue=queue,
            problems=tuple(problems.values()),
        )

    def request_registration(self) -> None:
        """Have the registration checked soon: somebody was told that the agent is not registered."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. Transactions in flight stay in the ledger and are taken up by the next run.

        May be called again once it ended.
        """
        async with self._rpc, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run(), name="chain-queue")
            tasks.create_task(self._keep_registered(), name="chain-registration")
            tasks.create_task(self._heartbeats.run(tasks), name="chain-heartbeats")
            tasks.create_task(self._keep_watching(), name="chain-watch")

    async def _keep_registered(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            problem = await self._ensure_registered()
            failures = failures + 1 if problem is not None else 0
            pause_s = self._rhythm.recheck_s
            if problem is not None:
                pause_s = self._timing.backoff_s(failures - 1, self._rhythm.first_retry_s, self._rhythm.longest_retry_s)
                problem = replace(problem, retry_at=self._timing.clock() + pause_s)
            self._report(_Source.REGISTRATION, problem)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                continue
            # Whoever asks may ask often; the chain is not asked more often than after a first failure.
            await self._timing.sleep(self._rhythm.first_retry_s)

    async def _ensure_registered(self) -> ChainProblem | None:
        try:
            self._registered = await self._registrar.ask()
            if not self._registered.yes:
                _log.info("%s is not registered (%s); registering it", self._agent, self._registered.source.value)
                problem = await self._registrar.register()
                if problem is not None:
                    return problem
                await self._await_visible()
            self._registration_hash = await self._registrar.transaction()
        except PlumisedError as error:
            return ChainProblem.of(error)
        if self._registered.yes:
            return None
        return ChainProblem(
            "registration-not-visible",
            f"{self._agent} was registered, but the chain does not show it ({self._registered.source.value})",
            "Nothing to do: it is asked again.",
        )

    async def _await_visible(self) -> None:
        deadline = self._timing.monotonic() + self._rhythm.visible_s
        while True:
            self._registered = await self._registrar.ask()
            if self._registered.yes or self._timing.monotonic() >= deadline:
                return
            await self._timing.sleep(self._rhythm.tick_s)

    def _is_registered(self) -> bool:
        return self._registered is not None and self._registered.yes

    def _doubt_registration(self) -> None:
        self._registered = None
        self.request_registration()

    async def _keep_watching(self) -> None:
        failures = 0
        while True:
            try:
                await self._watch()
                failures = 0
                pause_s = self._rhythm.watch_s
                self._report(_Source.ENDPOINTS, self._behind())
            except PlumisedError as error:
                pause_s = min(
                    self._rhythm.watch_s,
                    self._timing.backoff_s(failures, self._rhythm.first_retry_s, self._rhythm.longest_retry_s),
                )
                failures += 1
                self._report(_Source.ENDPOINTS, ChainProblem.of(error, self._timing.clock() + pause_s))
            await self._timing.sleep(pause_s)

    async def _watch(self) -> None:
        self._balance_wei = await self._chain.balance(self._agent)
        self._block_number = (await self._chain.latest_block()).number
        price = (await self._chain.fee_market()).gas_price
        self._report(_Source.BALANCE, self._low_balance(self._balance_wei, price))
        try:
            self._rewards = await read_rewards(self._chain, self._reward_pool, self._agent)
        except RewardsUnreadableError as error:
            self._rewards = None
            self._report(_Source.REWARDS, ChainProblem.of(error, self._timing.clock() + self._rhythm.watch_s))
        else:
            self._report(_Source.REWARDS, None)

    def _low_balance(self, balance_wei: int, price: int) -> ChainProblem | None:
        """Return that the balance is low; not where the chain is free of charge."""
        if price == 0 or balance_wei >= self._low_balance_wei:
            return None
        return ChainProblem(
            "balance-low",
            f"{self._agent} has {balance_wei} wei, less than {self._low_balance_wei}: enough for"
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

    def _report(self, source: _Source, problem: ChainProblem | None) -> None:
        """Keep a problem for the snapshot, and log it when it appears, changes or goes."""
        previous = self._problems.pop(source, None)
        if problem is not None:
            self._problems[source] = problem
            if previous is None or previous.code != problem.code:
                _log.warning("%s (%s). %s", problem.message, problem.code, problem.remedy)
        elif previous is not None:
            _log.info("%s: %s is over", source.value, previous.code)
