"""One transaction from its order to its end: asked, signed, stored, handed over, watched, raised."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from plumised.chain.drafts import Draft, attempt_of, draft, fee_of, lesser, stored_form, why_not_taken
from plumised.chain.events import what_it_did
from plumised.chain.fees import raised
from plumised.chain.flight import (
    Abandon,
    Decision,
    Flight,
    FlightPolicy,
    GiveUp,
    Replace,
    Resend,
    Settle,
    Supersede,
    View,
    decide,
)
from plumised.chain.orders import Confirmed, Failed, Order, Outcome, Purpose, Reverted
from plumised.chain.problems import ChainProblem
from plumised.chain.reader import CallFailed, NotTaken, Taken
from plumised.chain.rpc_errors import RpcError
from plumised.chain.send_refusals import SendRefusal
from plumised.errors import PlumisedError
from plumised.events import LogEvent, told
from plumised.ledger.records import TransactionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.chain.reader import ChainReader
    from plumised.chain.timing import Timing
    from plumised.chain.wallet import Wallet
    from plumised.ledger.records import StoredTransaction

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 30.0


class TransactionStore(Protocol):
    """Where transactions outlive the process; the ledger. Every method may raise PlumisedError."""

    async def save_transaction(self, transaction: StoredTransaction) -> None:
        """Store it in place of what is known of its (chain_id, sender, nonce). Durable on return."""

    async def unfinished_transactions(self, chain_id: int, sender: str) -> tuple[StoredTransaction, ...]:
        """Return those that can still change, lowest nonce first."""


class Pursuit:
    """Follows one transaction.

    Args:
        wallet: signs.
        chain: the endpoints.
        store: keeps what is signed.
        fee_cap: wei per gas that is never exceeded.
        policy: times and bounds.
        timing: time and chance.

    Attributes:
        stored: the transaction as it stands, None before it is signed.
        flight: where it is on its way.
        problem: what hinders it at the moment, or None.
    """

    def __init__(
        self,
        wallet: Wallet,
        chain: ChainReader,
        store: TransactionStore,
        fee_cap: int,
        policy: FlightPolicy,
        timing: Timing,
    ) -> None:
        self.stored: StoredTransaction | None = None
        self.flight = Flight(nonce=0, depth=0, attempts=0, attempted_at=0.0, sent_at=0.0)
        self.problem: ChainProblem | None = None
        self._wallet = wallet
        self._chain = chain
        self._store = store
        self._fee_cap = fee_cap
        self._policy = policy
        self._timing = timing

    def adopt(self, fee_cap: int, policy: FlightPolicy) -> None:
        """Go by this cap and these times from now on; what could pay no more under the last cap may under this one."""
        if fee_cap > self._fee_cap:
            self.flight = replace(self.flight, exhausted=False)
        self._fee_cap, self._policy = fee_cap, policy

    async def carry_out(self, order: Order, on_given_up: Callable[[Failed], None]) -> Outcome:
        """Send what is ordered and follow it to its end. `on_given_up` is called when it takes too long."""
        signed = await self._sign(order)
        if isinstance(signed, Failed):
            return signed
        now = self._timing.monotonic()
        self.flight = Flight(signed.nonce, order.depth, 1, attempted_at=now, sent_at=now)
        refused = await self._offer(signed)
        return refused if refused is not None else await self._follow(signed, on_given_up)

    async def take_up(self, left: StoredTransaction, on_given_up: Callable[[Failed], None]) -> Outcome:
        """Follow a transaction that an earlier process signed."""
        now = self._timing.monotonic()
        self.flight = Flight(
            left.nonce, _depth_of(left.purpose), len(left.attempts), attempted_at=now, sent_at=float("-inf")
        )
        return await self._follow(left, on_given_up)

    async def _sign(self, order: Order) -> StoredTransaction | Failed:
        """Ask the chain, sign and store."""
        try:
            drafted = await draft(order, self._chain, self._wallet.address, self._fee_cap)
            if isinstance(drafted, ChainProblem):
                return Failed(drafted)
            signed = stored_form(self._wallet, self._chain.chain_id, order, drafted, self._timing.clock())
            await self._store.save_transaction(signed)
        except PlumisedError as error:
            return Failed(ChainProblem.of(error))
        self.stored = signed
        return signed

    async def _offer(self, signed: StoredTransaction) -> Failed | None:
        """Hand it over for the first time; return why it is certain that no node has it, or None."""
        answer = await self._hand_over(signed)
        if not isinstance(answer, NotTaken) or answer.why is SendRefusal.NONCE_TOO_LOW:
            return None
        try:
            # The endpoint that refused may not be the first that got it.
            if (await self._look(signed)).known:
                return None
        except RpcError as error:
            self.problem = ChainProblem.of(error)
            return None
        await self._note(signed, TransactionState.DROPPED, answer.text)
        return Failed(why_not_taken(answer, signed.purpose, signed.sender))

    async def _follow(self, stored: StoredTransaction, on_given_up: Callable[[Failed], None]) -> Outcome:
        """Watch it until it is settled, superseded or gone."""
        failures = 0
        self.stored = stored
        while True:
            try:
                view = await self._look(stored)
                failures = 0
                self.flight, decision = decide(self.flight, view, self._policy)
                ended = await self._ended(stored, decision)
                if ended is None and isinstance(decision, Resend):
                    stored, ended = await self._resend(stored)
                elif isinstance(decision, Replace):
                    stored = await self._replace(stored)
                if ended is not None:
                    return ended
            except RpcError as error:
                await self._pause(error, failures)
                failures += 1
                continue
            self.stored = stored
            if isinstance(decision, GiveUp):
                failed = Failed(_stuck(stored), stored.attempts[-1].hash)
                stuck = told(
                    LogEvent.CHAIN_TROUBLE,
                    reason=failed.problem.code,
                    purpose=stored.purpose,
                    nonce=stored.nonce,
                    transaction=failed.hash,
                )
                _log.warning("%s", failed.problem.message, extra=stuck)
                on_given_up(failed)
            self.problem = _stuck(stored) if self.flight.given_up else None
            await self._timing.sleep(self._policy.slow_poll_s if self.flight.given_up else self._policy.poll_s)

    async def _ended(self, stored: StoredTransaction, decision: Decision) -> Outcome | None:
        """Write down an end and return it, or None where the decision is none."""
        if isinstance(decision, Settle):
            receipt = decision.receipt
            mined = replace(
                stored,
                block_number=receipt.block_number,
                mined_hash=receipt.hash,
                gas_used=receipt.gas_used,
                effective_gas_price=receipt.gas_price,
            )
            cost_wei = receipt.gas_used * receipt.gas_price
            if not receipt.succeeded:
                await self._note(mined, TransactionState.REVERTED)
                return Reverted(receipt.hash, receipt.block_number, cost_wei)
            await self._note(mined, TransactionState.MINED, what_it_did(stored, receipt.events))
            return Confirmed(receipt.hash, receipt.block_number, cost_wei, receipt.events)
        if isinstance(decision, Supersede):
            await self._note(stored, TransactionState.REPLACED, "another transaction used the nonce")
            return Failed(
                ChainProblem(
                    "transaction-superseded",
                    f"Nonce {stored.nonce} of {stored.sender} was used by a transaction that this node did not send",
                    "Let no other program send transactions with this node's wallet.",
                ),
                stored.attempts[-1].hash,
            )
        return await self._abandoned(stored, "no node has it") if isinstance(decision, Abandon) else None

    async def _abandoned(self, stored: StoredTransaction, reason: str) -> Failed:
        await self._note(stored, TransactionState.DROPPED, reason)
        return Failed(
            ChainProblem(
                "transaction-dropped",
                f"The transaction to {stored.purpose} (nonce {stored.nonce}) was dropped: {reason}",
                "Nothing to do: another one is sent when it is still needed.",
            ),
            stored.attempts[-1].hash,
        )

    async def _resend(self, stored: StoredTransaction) -> tuple[StoredTransaction, Outcome | None]:
        """Hand the same bytes over again, if they would still do something; else return that they are abandoned."""
        self.flight = replace(self.flight, sent_at=self._timing.monotonic())
        simulated = await self._chain.call(stored.to, stored.data, sender=stored.sender, gas=stored.gas)
        if isinstance(simulated, CallFailed):
            return stored, await self._abandoned(stored, f"it would fail: {simulated.text}")
        answer = await self._hand_over(stored)
        if isinstance(answer, NotTaken) and answer.why is SendRefusal.UNDERPRICED:
            stored = await self._replace(stored)
        elif isinstance(answer, NotTaken) and answer.why is SendRefusal.INSUFFICIENT_FUNDS:
            self.flight = replace(self.flight, exhausted=True)
        return stored, None

    async def _replace(self, stored: StoredTransaction) -> StoredTransaction:
        """Sign, store and send a dearer form, within the cap, the balance and the bound."""
        if len(stored.attempts) >= self._policy.most_attempts:
            self.flight = replace(self.flight, exhausted=True)
            return stored
        market = await self._chain.fee_market()
        balance = await self._chain.balance(stored.sender)
        cap = lesser(self._fee_cap, stored.fee_cap)
        fee = raised(fee_of(stored.attempts[-1]), market, cap)
        if fee is None or stored.gas * fee.highest > balance:
            limit = f"the cap is {cap} wei per gas" if fee is None else f"the balance is {balance} wei"
            _log.warning("the transaction to %s (nonce %d) cannot pay more: %s", stored.purpose, stored.nonce, limit)
            self.flight = replace(self.flight, exhausted=True)
            return stored
        now = self._timing.monotonic()
        self.flight = replace(self.flight, attempted_at=now, sent_at=now)
        attempt = attempt_of(self._wallet, Draft(stored.nonce, fee).fields_again(stored), self._timing.clock())
        dearer = replace(stored, attempts=(*stored.attempts, attempt), updated_at=self._timing.clock())
        try:
            await self._store.save_transaction(dearer)
        except PlumisedError as error:
            _log.warning("a dearer form of nonce %d is not sent, for it cannot be stored: %s", stored.nonce, error)
            return stored
        replaced = told(
            LogEvent.TRANSACTION_REPLACED, purpose=stored.purpose, nonce=stored.nonce, transaction=attempt.hash
        )
        _log.info("replacing the transaction to %s (nonce %d): %s", stored.purpose, stored.nonce, fee, extra=replaced)
        self.stored = dearer
        self.flight = replace(self.flight, attempts=len(dearer.attempts))
        answer = await self._hand_over(dearer)
        if isinstance(answer, NotTaken) and answer.why is SendRefusal.INSUFFICIENT_FUNDS:
            self.flight = replace(self.flight, exhausted=True)
        return dearer

    async def _hand_over(self, stored: StoredTransaction) -> Taken | NotTaken | None:
        """Give the last attempt to a node; None where it is unknown whether one has it."""
        try:
            answer = await self._chain.send(stored.attempts[-1].raw)
        except RpcError as error:
            self.problem = ChainProblem.of(error)
            return None
        if isinstance(answer, NotTaken):
            _log.info("a node refused %s (%s): %s", stored.attempts[-1].hash, answer.why, answer.text)
        return answer

    async def _look(self, stored: StoredTransaction) -> View:
        mined_nonce = await self._chain.mined_nonce(stored.sender)
        if mined_nonce > stored.nonce:
            for attempt in reversed(stored.attempts):
                receipt = await self._chain.receipt(attempt.hash)
                if receipt is not None:
                    head = (await self._chain.latest_block()).number
                    return View(self._timing.monotonic(), mined_nonce, mined_nonce, True, receipt, head)
            return View(self._timing.monotonic(), mined_nonce, mined_nonce, False, None, 0)
        pending_nonce = await self._chain.pending_nonce(stored.sender)
        known = False
        for attempt in reversed(stored.attempts):
            known = await self._chain.knows(attempt.hash)
            if known:
                break
        return View(self._timing.monotonic(), mined_nonce, pending_nonce, known, None, 0)

    async def _note(self, stored: StoredTransaction, state: TransactionState, detail: str = "") -> None:
        """Write an end down; where the disk refuses, the chain still knows and a restart asks it again."""
        self.stored = replace(stored, state=state, detail=detail, updated_at=self._timing.clock())
        try:
            await self._store.save_transaction(self.stored)
        except PlumisedError as error:
            _log.warning("the end of %s cannot be stored: %s", stored.attempts[-1].hash, error)

    async def _pause(self, error: PlumisedError, failures: int) -> None:
        pause_s = self._timing.backoff_s(failures, 2 * self._policy.poll_s, _LONGEST_PAUSE_S)
        self.problem = ChainProblem.of(error, self._timing.clock() + pause_s)
        await self._timing.sleep(pause_s)


def _depth_of(purpose: str) -> int:
    return Purpose(purpose).depth if purpose in set(Purpose) else 0


def _stuck(stored: StoredTransaction) -> ChainProblem:
    last = stored.attempts[-1]
    return ChainProblem(
        "transaction-stuck",
        f"The transaction to {stored.purpose} (nonce {stored.nonce}, last {last.hash}) is not mined after"
        f" {len(stored.attempts)} attempts, the last for {last.max_fee_per_gas} wei per gas",
        "Raise chain.max_fee_gwei if the chain asks more; others wait until this one is mined or dropped.",
    )
