"""The owner of the chain's side: keeps the agent registered and alive, watches what it has, and claims what it earned.

Nothing that the chain does ends it: every bad day is a problem in the snapshot, with the time of the next try.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from plumised.chain import calldata
from plumised.chain.addresses import REWARD_POOL
from plumised.chain.claims import Claimable, Claimed, Claims
from plumised.chain.heartbeat import Heartbeats
from plumised.chain.membership import Membership, MembershipPolicy
from plumised.chain.orders import Outcome, Purpose
from plumised.chain.problem_board import ProblemBoard, Source
from plumised.chain.problems import ChainProblem
from plumised.chain.proving import ProofSource, Prover
from plumised.chain.pursuit import TransactionStore
from plumised.chain.reader import ChainReader
from plumised.chain.registration import Facts, Registrar
from plumised.chain.registry import AgentRegistry, Enrolled
from plumised.chain.rewards import Rewards, read_rewards
from plumised.chain.rpc import Rpc
from plumised.chain.snapshot import ChainSnapshot
from plumised.chain.timing import Timing
from plumised.chain.transactions import TransactionQueue
from plumised.chain.watching import Watch, WatchPolicy
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from plumised.chain.terms import ChainTerms
    from plumised.chain.wallet import Wallet
    from plumised.ledger.records import StoredTransaction


T = TypeVar("T")


class ChainStore(TransactionStore, Facts, ProofSource, Protocol):
    """What the chain's side keeps across restarts; the ledger."""


class ChainNotRunningError(PlumisedError):
    """The chain's side is not at work, so nothing can be asked of it."""

    code = "chain-not-running"


_NO_REGISTRY: Final = ChainProblem(
    "registry-unknown",
    "The configuration names no AgentRegistry contract, so there is none to register in",
    "Set chain.agent_registry if this chain has one.",
)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often things happen, in seconds.

    Attributes:
        recheck_s: between two questions whether the agent is still registered.
        visible_s: how long a registration may take to show.
        first_retry_s: after the first failure; doubles with each.
        longest_retry_s: at most.
        watch_s: between two looks at balance and rewards.
        tick_s: between two looks at what is due.
    """

    recheck_s: float = 600.0
    visible_s: float = 30.0
    first_retry_s: float = 5.0
    longest_retry_s: float = 300.0
    watch_s: float = 60.0
    tick_s: float = 1.0


class ChainAgent:
    """Registration, heartbeats, balance, rewards and proofs of one agent.

    Args:
        wallet: the agent.
        store: the ledger.
        terms: what may be changed later, with `adopt`.
        chain_id: that the endpoints must serve.
        serving: whether heartbeats are true at the moment.
        registry: address of the AgentRegistry contract, or None.
        reward_pool: address of the RewardPool contract.
        sponsor: has the agent registered at somebody else's cost, or raises PlumisedError; None where nobody would.
        rhythm: how often things happen.
        timing: time and chance.
    """

    def __init__(  # noqa: PLR0913 # everything by keyword
        self,
        *,
        wallet: Wallet,
        store: ChainStore,
        terms: ChainTerms,
        chain_id: int,
        serving: Callable[[], bool],
        registry: str | None = None,
        reward_pool: str = REWARD_POOL,
        sponsor: Callable[[], Awaitable[None]] | None = None,
        rhythm: Rhythm | None = None,
        timing: Timing | None = None,
    ) -> None:
        rhythm, timing = rhythm or Rhythm(), timing or Timing()
        self._agent = wallet.address
        self._reward_pool = reward_pool
        self._board = ProblemBoard()
        self._rpc = Rpc(terms.rpc_urls, chain_id, timeout_s=terms.rpc_timeout_s, timing=timing)
        self._chain = ChainReader(self._rpc)
        self._queue = TransactionQueue(
            wallet,
            self._chain,
            store,
            fee_cap=terms.fee_cap,
            policy=terms.flight,
            timing=timing,
            on_taken_up=self._taken_up,
        )
        self._registry = (
            AgentRegistry(
                registry,
                self._agent,
                calldata.registration_name(terms.model, self._agent),
                self._chain,
                self._queue,
            )
            if registry is not None
            else None
        )
        self._registrar = Registrar(
            self._agent, terms.model, self._chain, self._queue, store, registry=registry, sponsor=sponsor
        )
        self._membership = Membership(
            self._agent,
            self._registrar,
            self._board,
            MembershipPolicy(
                recheck_s=rhythm.recheck_s,
                visible_s=rhythm.visible_s,
                first_retry_s=rhythm.first_retry_s,
                longest_retry_s=rhythm.longest_retry_s,
                tick_s=rhythm.tick_s,
            ),
            timing,
        )
        self._heartbeats = Heartbeats(
            self._queue,
            interval_s=terms.heartbeat_s,
            tick_s=rhythm.tick_s,
            serving=serving,
            registered=self._membership.holds,
            refused=self._membership.doubt,
            timing=timing,
        )
        self._watch = Watch(
            self._agent,
            self._rpc,
            self._chain,
            reward_pool=reward_pool,
            registry=self._registry,
            board=self._board,
            policy=WatchPolicy(rhythm.watch_s, rhythm.first_retry_s, terms.low_balance_wei),
            timing=timing,
        )
        self._claims = Claims(
            queue=self._queue,
            chain=self._chain,
            pool=reward_pool,
            agent=self._agent,
            registry=self._registry,
            fee_cap=terms.fee_cap,
            policy=terms.claiming,
            board=self._board,
            timing=timing,
        )
        self._prover = Prover(
            queue=self._queue,
            source=store,
            agent=self._agent,
            chain_id=chain_id,
            registered=self._membership.holds,
            policy=terms.proving,
            board=self._board,
            timing=timing,
        )
        self._tasks: asyncio.TaskGroup | None = None

    def adopt(self, terms: ChainTerms) -> None:
        """Go by these terms from now on, also with the transaction that is on its way."""
        self._rpc.adopt(terms.rpc_urls, terms.rpc_timeout_s)
        self._queue.adopt(terms.fee_cap, terms.flight)
        self._registrar.adopt(terms.model)
        if self._registry is not None:
            self._registry.adopt(calldata.registration_name(terms.model, self._agent))
        self._heartbeats.adopt(terms.heartbeat_s)
        self._watch.adopt(terms.low_balance_wei)
        self._claims.adopt(terms.claiming, terms.fee_cap)
        self._prover.adopt(terms.proving)

    def snapshot(self) -> ChainSnapshot:
        """Return what is known, from memory."""
        queue = self._queue.status()
        found = [*self._board.all(), self._heartbeats.problem(), queue.problem]
        problems = {problem.message: problem for problem in found if problem is not None}
        registered = self._membership.registered
        return ChainSnapshot(
            agent=self._agent,
            chain_id=self._chain.chain_id,
            registered=registered.yes if registered is not None else None,
            registered_by=registered.source.value if registered is not None else None,
            registration_hash=self._membership.transaction,
            balance_wei=self._watch.balance_wei,
            balance_low=self._board.of(Source.BALANCE) is not None,
            block_number=self._watch.block_number,
            pulse=self._heartbeats.pulse,
            rewards=self._watch.rewards,
            standing=self._watch.standing,
            claims=self._claims.tally,
            claim_note=self._claims.note,
            proofs=self._prover.tally,
            rpc=self._rpc.status(),
            queue=queue,
            problems=tuple(problems.values()),
        )

    def request_registration(self) -> None:
        """Have the registration checked soon: somebody was told that the agent is not registered."""
        self._membership.ask_soon()

    async def rewards(self) -> Rewards:
        """Ask the RewardPool.

        Raises:
            PlumisedError: the chain cannot be asked.
        """
        self._at_work()
        return await read_rewards(self._chain, self._reward_pool, self._agent)

    async def preview_claim(self) -> Claimable | ChainProblem:
        """Find out whether a claim would succeed and pay; costs nothing. Raises ChainNotRunningError."""
        return await self._see_through(self._claims.preview())

    async def claim(self) -> Claimed | ChainProblem:
        """Claim, if that would succeed and pays. A cancelled caller stops nothing. Raises ChainNotRunningError."""
        return await self._see_through(self._claims.claim())

    async def enrol(self, *, dry_run: bool) -> Enrolled | ChainProblem:
        """Do what the AgentRegistry contract still needs. As `claim`."""
        if self._registry is None:
            return _NO_REGISTRY
        return await self._see_through(self._registry.enrol(dry_run=dry_run))

    async def run(self) -> None:
        """Work until cancelled. Transactions in flight stay in the ledger and are taken up by the next run.

        May be called again once it ended.
        """
        async with self._rpc:
            try:
                async with asyncio.TaskGroup() as tasks:
                    self._tasks = tasks
                    tasks.create_task(self._queue.run(), name="chain-queue")
                    tasks.create_task(self._membership.run(), name="chain-registration")
                    tasks.create_task(self._heartbeats.run(tasks), name="chain-heartbeats")
                    tasks.create_task(self._watch.run(), name="chain-watch")
                    tasks.create_task(self._claims.run(), name="chain-claims")
                    tasks.create_task(self._prover.run(), name="chain-proofs")
            finally:
                self._tasks = None

    def _at_work(self) -> asyncio.TaskGroup:
        if self._tasks is None:
            raise ChainNotRunningError("The chain's side is not at work at the moment", "Look at plumised status.")
        return self._tasks

    async def _see_through(self, work: Coroutine[None, None, T | ChainProblem]) -> T | ChainProblem:
        """Let something that an operator asked for come to its end, even when he no longer waits for it."""
        try:
            tasks = self._at_work()
        except ChainNotRunningError:
            work.close()
            raise
        return await asyncio.shield(tasks.create_task(_told(work), name="chain-by-hand"))

    def _taken_up(self, transaction: StoredTransaction, outcome: Outcome) -> None:
        """Count what an earlier process signed and this one saw the end of."""
        match transaction.purpose:
            case Purpose.REGISTER:
                self._membership.ask_soon()
            case Purpose.HEARTBEAT:
                self._heartbeats.taken_up(outcome)
            case Purpose.CLAIM:
                self._claims.settled(outcome)
            case Purpose.VERIFY:
                self._prover.settled(outcome)
            case _:
                pass


async def _told(work: Coroutine[None, None, T | ChainProblem]) -> T | ChainProblem:
    """Return what goes wrong instead of raising it."""
    try:
        return await work
    except PlumisedError as error:
        return ChainProblem.of(error)
