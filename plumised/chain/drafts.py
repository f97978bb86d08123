"""From an order to a signed form of it: what is asked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.chain.fees import DynamicFee, Fee, LegacyFee, affordable, propose
from plumised.chain.problems import ChainProblem
from plumised.chain.reader import CallFailed
from plumised.chain.send_refusals import SendRefusal
from plumised.chain.wallet import TransactionFields
from plumised.ledger.records import SignedAttempt, StoredTransaction, TransactionState

if TYPE_CHECKING:
    from plumised.chain.orders import Order
    from plumised.chain.reader import ChainReader, NotTaken
    from plumised.chain.wallet import Wallet


@dataclass(frozen=True, slots=True)
class Draft:
    """What an order lacks to be signed.

    Attributes:
        nonce: of the agent.
        fee: price of one gas.
    """

    nonce: int
    fee: Fee

    def fields(self, chain_id: int, order: Order) -> TransactionFields:
        """Return the transaction of a fresh order."""
        return TransactionFields(chain_id, self.nonce, order.to, order.data, order.gas, self.fee)

    def fields_again(self, stored: StoredTransaction) -> TransactionFields:
        """Return a further form of a stored transaction."""
        return TransactionFields(
            stored.chain_id, self.nonce, stored.to, stored.data, stored.gas, self.fee, stored.value
        )


async def draft(order: Order, chain: ChainReader, agent: str, fee_cap: int) -> Draft | ChainProblem:
    """Ask the chain whether an order would succeed, what it costs and which nonce it gets.

    Args:
        order: what is wanted.
        chain: the endpoints.
        agent: the sender.
        fee_cap: wei per gas that must not be exceeded; the order's own cap binds, too.

    Raises:
        RpcError: the chain cannot be asked.
    """
    await chain.make_sure()
    simulated = await chain.call(order.to, order.data, sender=agent, gas=order.gas)
    if isinstance(simulated, CallFailed):
        return would_fail(order.purpose, simulated.text)
    market = await chain.fee_market()
    cap = lesser(fee_cap, order.fee_cap)
    proposed = propose(market, cap)
    if proposed is None:
        return ChainProblem(
            "fees-above-cap",
            f"The chain asks {market.asked} wei per gas to {order.purpose}; the cap is {cap}",
            "Wait, or raise chain.max_fee_gwei.",
        )
    balance = await chain.balance(agent)
    fee = affordable(proposed, market, order.gas, balance)
    if fee is None:
        needed = order.gas * market.asked
        return insufficient(order.purpose, agent, f"it has {balance} wei and needs {needed}")
    nonce = max(await chain.mined_nonce(agent), await chain.pending_nonce(agent))
    return Draft(nonce, fee)


def lesser(fee_cap: int, own: int | None) -> int:
    """Return the cap that binds a transaction: the queue's, or its own where that is less."""
    return fee_cap if own is None else min(fee_cap, own)


def attempt_of(wallet: Wallet, fields: TransactionFields, now: float) -> SignedAttempt:
    """Sign the transaction and return it as the ledger keeps it. `now` is the wall clock."""
    signed = wallet.sign_transaction(fields)
    return SignedAttempt(
        hash=signed.hash,
        raw=signed.raw,
        max_fee_per_gas=fields.fee.highest,
        max_priority_fee_per_gas=fields.fee.tip if isinstance(fields.fee, DynamicFee) else None,
        signed_at=now,
    )


def stored_form(wallet: Wallet, chain_id: int, order: Order, drafted: Draft, now: float) -> StoredTransaction:
    """Sign a fresh order and return it as the ledger keeps it. `now` is the wall clock."""
    return StoredTransaction(
        chain_id=chain_id,
        sender=wallet.address,
        nonce=drafted.nonce,
        purpose=order.purpose.value,
        to=order.to,
        data=order.data,
        value=0,
        gas=order.gas,
        state=TransactionState.SIGNED,
        attempts=(attempt_of(wallet, drafted.fields(chain_id, order), now),),
        block_number=None,
        mined_hash=None,
        gas_used=None,
        effective_gas_price=None,
        detail="",
        created_at=now,
        updated_at=now,
        fee_cap=order.fee_cap,
    )


def fee_of(attempt: SignedAttempt) -> Fee:
    """Return the fee that a stored attempt pays."""
    if attempt.max_priority_fee_per_gas is None:
        return LegacyFee(attempt.max_fee_per_gas)
    return DynamicFee(attempt.max_fee_per_gas, attempt.max_priority_fee_per_gas)


def why_not_taken(answer: NotTaken, purpose: str, agent: str) -> ChainProblem:
    """Return why a node did not take a transaction."""
    if answer.why is SendRefusal.INSUFFICIENT_FUNDS:
        return insufficient(purpose, agent, answer.text)
    if answer.why is SendRefusal.WOULD_FAIL:
        return would_fail(purpose, answer.text)
    return ChainProblem(
        "transaction-refused",
        f"A node did not take the transaction to {purpose} ({answer.why}): {answer.text}",
        "It is tried again; let no other program send transactions with this node's wallet.",
    )


def insufficient(purpose: str, agent: str, reason: str) -> ChainProblem:
    """Return that the agent cannot pay."""
    return ChainProblem(
        "insufficient-funds",
        f"{agent} cannot pay for the transaction to {purpose}: {reason}",
        f"Send PLM to {agent}.",
    )


def would_fail(purpose: str, text: str) -> ChainProblem:
    """Return that the transaction was not sent because a simulation failed."""
    return ChainProblem(
        "transaction-would-fail",
        f"The transaction to {purpose} was not sent, for it would fail: {text}",
        "It is tried again when it is due.",
    )
