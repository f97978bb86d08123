"""Registration at precompile 0x21: ask, act when needed, ask again.

Whether an agent is registered is asked in this order:

1. `agent_isAgentAccount`, where an endpoint has it.
2. Two simulated calls: a registration and a heartbeat. Exactly one of them succeeds where the precompiles exist.
3. The AgentRegistry contract, where one is configured. It is another register, so its word comes last.
4. What this node remembers of its own mined registration, on a chain that has nothing to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from plumised.chain import calldata
from plumised.chain.addresses import HEARTBEAT, HEARTBEAT_GAS, REGISTER_AGENT, REGISTER_AGENT_GAS
from plumised.chain.orders import AlreadyPendingError, Confirmed, Failed, Order, Purpose
from plumised.chain.problems import ChainProblem
from plumised.chain.reader import CallFailed
from plumised.errors import PlumisedError
from plumised.ledger.records import TransactionState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from plumised.chain.reader import ChainReader
    from plumised.chain.transactions import TransactionQueue
    from plumised.ledger.records import JsonValue, StoredTransaction


_LOOKED_THROUGH = 1000
"""Transactions of the ledger that are looked through for a registration; it keeps as many."""


class Source(StrEnum):
    """Who said whether the agent is registered."""

    METHOD = "agent_isAgentAccount"
    SIMULATION = "simulated calls"
    REGISTRY = "AgentRegistry"
    RECEIPT = "own receipt"


@dataclass(frozen=True, slots=True)
class Registered:
    """What the chain says of the agent's registration.

    Attributes:
        yes: whether it is registered.
        source: who said so.
    """

    yes: bool
    source: Source


class Facts(Protocol):
    """Small things worth remembering; the ledger. Every method may raise PlumisedError."""

    async def fact(self, key: str) -> JsonValue:
        """Return what was set last, or None."""

    async def set_fact(self, key: str, value: JsonValue) -> None:
        """Remember `value`."""

    async def recent_transactions(self, limit: int) -> tuple[StoredTransaction, ...]:
        """Return the last ones to change, newest first."""


class Registrar:
    """Finds out whether the agent is registered, and registers it.

    Args:
        agent: checksummed address.
        model: name of the served model; part of the registration's name and hash.
        chain: the endpoints.
        queue: sends the transaction.
        facts: remember the transaction.
        registry: address of the AgentRegistry contract, or None.
        sponsor: has somebody else register the agent at his cost and returns when that is done, or raises
            PlumisedError; None where nobody would.
    """

    def __init__(
        self,
        agent: str,
        model: str,
        chain: ChainReader,
        queue: TransactionQueue,
        facts: Facts,
        *,
        registry: str | None,
        sponsor: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._agent = agent
        self._chain = chain
        self._queue = queue
        self._facts = facts
        self._registry = registry
        self._sponsor = sponsor
        self._calldata = _registering(model, agent)
        self._key = f"chain.registration.{chain.chain_id}.{agent}"

    def adopt(self, model: str) -> None:
        """Register the agent with this model, should it have to be registered."""
        self._calldata = _registering(model, self._agent)

    async def ask(self) -> Registered:
        """Return what the chain says.

        Raises:
            RpcError: the chain cannot be asked.
            LedgerError: what the node remembers is needed and cannot be read.
        """
        said = await self._chain.is_agent_account(self._agent)
        if said is not None:
            return Registered(said, Source.METHOD)
        registering = await self._simulate(REGISTER_AGENT, self._calldata, REGISTER_AGENT_GAS)
        beating = await self._simulate(HEARTBEAT, calldata.heartbeat(), HEARTBEAT_GAS)
        if registering != beating:
            return Registered(beating, Source.SIMULATION)
        if self._registry is not None:
            answer = await self._chain.call(
                self._registry, calldata.of_address(calldata.REGISTRY_IS_REGISTERED, self._agent), sender=self._agent
            )
            listed = None if isinstance(answer, CallFailed) else calldata.read_bool(answer)
            if listed is not None:
                return Registered(listed, Source.REGISTRY)
        return Registered(await self.transaction() is not None, Source.RECEIPT)

    async def transaction(self) -> str | None:
        """Return the hash of this node's own registration of this agent on this chain, if it made one.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        remembered = await self._facts.fact(self._key)
        if isinstance(remembered, str):
            return remembered
        # The process may have ended between the receipt and the fact.
        for stored in await self._facts.recent_transactions(_LOOKED_THROUGH):
            if (stored.purpose, stored.state) == (Purpose.REGISTER, TransactionState.MINED) and (
                (stored.chain_id, stored.sender) == (self._chain.chain_id, self._agent)
            ):
                await self._facts.set_fact(self._key, stored.mined_hash)
                return stored.mined_hash
        return None

    async def register(self) -> ChainProblem | None:
        """Register the agent, by a transaction of its own or through the sponsor. None when that was done.

        Done means that it was accepted; the chain is still to be asked whether it holds.

        Raises:
            PlumisedError: the ledger cannot remember it, or the queue takes nothing.
        """
        order = Order(
            Purpose.REGISTER, REGISTER_AGENT, self._calldata, REGISTER_AGENT_GAS, depth=Purpose.REGISTER.depth
        )
        try:
            outcome = await self._queue.submit(order)
        except AlreadyPendingError as error:
            return ChainProblem.of(error)
        if isinstance(outcome, Confirmed):
            await self._facts.set_fact(self._key, outcome.hash)
            return None
        if not isinstance(outcome, Failed):
            return ChainProblem(
                "registration-reverted",
                f"The registration of {self._agent} was mined and failed: {outcome.hash}",
                "Nothing to do if the agent was registered meanwhile; else look the transaction up.",
            )
        if outcome.problem.code == "insufficient-funds" and self._sponsor is not None:
            return await self._have_sponsored(self._sponsor)
        return None if "already registered" in outcome.problem.message.lower() else outcome.problem

    async def _have_sponsored(self, sponsor: Callable[[], Awaitable[None]]) -> ChainProblem | None:
        try:
            await sponsor()
        except PlumisedError as error:
            return ChainProblem(
                "registration-not-sponsored",
                f"{self._agent} has no balance to register itself, and was not registered for it: {error.message}",
                f"Send PLM to {self._agent}, or: {error.remedy}",
            )
        return None

    async def _simulate(self, to: str, data: bytes, gas: int) -> bool:
        return not isinstance(await self._chain.call(to, data, sender=self._agent, gas=gas), CallFailed)


def _registering(model: str, agent: str) -> bytes:
    return calldata.register_agent(calldata.registration_name(model, agent), calldata.model_hash(model))
