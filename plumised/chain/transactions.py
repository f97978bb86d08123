"""The one sender of the agent's transactions: a serial queue that owns the nonce.

One transaction is in flight at a time, so a nonce is never guessed: it is what the chain says when it is needed. Every
signed form is in the ledger before a node sees it, and what a crash leaves there is taken up, not sent anew.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

from plumised.chain.flight import FlightPolicy
from plumised.chain.orders import AlreadyPendingError, Failed, Order, Outcome, QueueFullError
from plumised.chain.problems import ChainProblem
from plumised.chain.pursuit import Pursuit, TransactionStore
from plumised.chain.timing import Timing
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plumised.chain.reader import ChainReader
    from plumised.chain.wallet import Wallet
    from plumised.ledger.records import StoredTransaction

_log = logging.getLogger(__name__)

_MOST_ORDERS = 4
_MOST_STARTS = 3


@dataclass(frozen=True, slots=True)
class InFlight:
    """The transaction that the queue works on.

    Attributes:
        purpose: what it is for.
        nonce: of the agent.
        hash: of its last attempt.
        attempts: signed forms so far.
        since: when the first was signed, seconds since the epoch.
        given_up: whether it was reported as given up and only stands in the way.
    """

    purpose: str
    nonce: int
    hash: str
    attempts: int
    since: float
    given_up: bool


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What the queue does.

    Attributes:
        in_flight: the transaction on its way, or None.
        waiting: orders behind it.
        problem: what hinders it, or None.
    """

    in_flight: InFlight | None
    waiting: int
    problem: ChainProblem | None


class TransactionQueue:
    """Sends transactions one after the other and follows each to its end.

    Args:
        wallet: signs.
        chain: the endpoints.
        store: keeps what is signed.
        fee_cap: wei per gas that no transaction ever exceeds, replacements included.
        policy: times and bounds.
        timing: time and chance.
        on_taken_up: told what became of each transaction that an earlier process signed.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: ChainReader,
        store: TransactionStore,
        *,
        fee_cap: int,
        policy: FlightPolicy | None = None,
        timing: Timing | None = None,
        on_taken_up: Callable[[StoredTransaction, Outcome], None] | None = None,
    ) -> None:
        self._wallet = wallet
        self._chain = chain
        self._store = store
        self._fee_cap = fee_cap
        self._policy = policy or FlightPolicy()
        self._timing = timing or Timing()
        self._orders: asyncio.Queue[tuple[Order, asyncio.Future[Outcome]]] = asyncio.Queue(_MOST_ORDERS)
        self._busy: set[str] = set()
        self._on_taken_up = on_taken_up
        self._left_known = asyncio.Event()
        self._pursuit: Pursuit | None = None
        self._problem: ChainProblem | None = None

    def adopt(self, fee_cap: int, policy: FlightPolicy) -> None:
        """Go by this cap and these times from now on, also with the transaction that is on its way."""
        self._fee_cap, self._policy = fee_cap, policy
        if self._pursuit is not None:
            self._pursuit.adopt(fee_cap, policy)

    def status(self) -> QueueStatus:
        """Return what the queue does, from memory."""
        pursuit = self._pursuit
        if pursuit is None:
            return QueueStatus(None, self._orders.qsize(), self._problem)
        in_flight = None
        if pursuit.stored is not None:
            in_flight = InFlight(
                purpose=pursuit.stored.purpose,
                nonce=pursuit.stored.nonce,
                hash=pursuit.stored.attempts[-1].hash,
                attempts=len(pursuit.stored.attempts),
                since=pursuit.stored.created_at,
                given_up=pursuit.flight.given_up,
            )
        return QueueStatus(in_flight, self._orders.qsize(), pursuit.problem or self._problem)

    async def submit(self, order: Order) -> Outcome:
        """Have a transaction sent, and return when its fate is known or it is given up. `run` must be running.

        A cancelled caller does not stop the transaction. Nothing is taken before the ledger has told what an earlier
        process left behind.

        Raises:
            AlreadyPendingError: one of the same purpose waits or is in flight, given-up ones included.
            QueueFullError: too many orders wait.
        """
        await self._left_known.wait()
        if order.purpose in self._busy:
            raise AlreadyPendingError(
                f"A transaction to {order.purpose} is not settled yet", "Nothing to do: it is watched."
            )
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            self._orders.put_nowait((order, future))
        except asyncio.QueueFull:
            raise QueueFullError(
                f"{self._orders.qsize()} transactions wait for the one in flight",
                "Look at the first one in the status.",
            ) from None
        self._busy.add(order.purpose)
        return await asyncio.shield(future)

    async def run(self) -> Never:
        """Take up what the ledger holds, then carry out orders. When cancelled, what is in flight stays stored.

        May be called again once it ended; orders that wait are carried out then.
        """
        try:
            await self._take_up(await self._left_behind())
            while True:
                order, future = await self._orders.get()
                try:
                    _answer(future, await self._carry_out(order, future))
                finally:
                    self._pursuit = None
                    self._busy.discard(order.purpose)
                    future.cancel()
        finally:
            self._left_known.clear()

    async def _take_up(self, left_behind: Sequence[StoredTransaction]) -> None:
        """Follow each to its end, lowest nonce first. All of their purposes are busy from the beginning."""
        self._busy |= {left.purpose for left in left_behind}
        self._left_known.set()
        for left in left_behind:
            _log.info("taking up the transaction to %s (nonce %d)", left.purpose, left.nonce)
            try:
                self._pursuit = self._new_pursuit()
                outcome = await self._pursuit.take_up(left, lambda _: None)
            finally:
                self._pursuit = None
                self._busy.discard(left.purpose)
            ended = told(
                LogEvent.TRANSACTION_ENDED, purpose=left.purpose, nonce=left.nonce, transaction=left.attempts[-1].hash
            )
            _log.info("the transaction to %s (nonce %d) ended: %s", left.purpose, left.nonce, outcome, extra=ended)
            if self._on_taken_up is not None:
                self._on_taken_up(left, outcome)

    async def _carry_out(self, order: Order, future: asyncio.Future[Outcome]) -> Outcome:
        """Follow an order; when another program's transaction took its nonce, ask again whether it is still needed."""
        for _ in range(_MOST_STARTS - 1):
            outcome = await self._once(order, future)
            if not (isinstance(outcome, Failed) and outcome.problem.code == "transaction-superseded"):
                return outcome
        return await self._once(order, future)

    async def _once(self, order: Order, future: asyncio.Future[Outcome]) -> Outcome:
        self._pursuit = self._new_pursuit()
        return await self._pursuit.carry_out(order, lambda failed: _answer(future, failed))

    async def _left_behind(self) -> tuple[StoredTransaction, ...]:
        failures = 0
        while True:
            try:
                left = await self._store.unfinished_transactions(self._chain.chain_id, self._wallet.address)
            except PlumisedError as error:
                pause_s = self._timing.backoff_s(failures, 1.0, 60.0)
                self._problem = ChainProblem.of(error, self._timing.clock() + pause_s)
                failures += 1
                await self._timing.sleep(pause_s)
            else:
                self._problem = None
                return left

    def _new_pursuit(self) -> Pursuit:
        return Pursuit(self._wallet, self._chain, self._store, self._fee_cap, self._policy, self._timing)


def _answer(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
