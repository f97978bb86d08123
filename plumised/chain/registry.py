"""The AgentRegistry contract: another register than precompile 0x21, which the RewardPool pays the agents of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plumised.chain import calldata
from plumised.chain.orders import Confirmed, Failed, Order, Outcome, Purpose
from plumised.chain.problems import ChainProblem
from plumised.chain.reader import CallFailed
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from plumised.chain.reader import ChainReader
    from plumised.chain.transactions import TransactionQueue

REGISTRATION_GAS: Final = 300_000
HEARTBEAT_GAS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Standing:
    """What the contract says of the agent.

    Attributes:
        registered: whether it has the agent; None where it does not answer as it should.
        active: whether it has heard of it in the last 300 s; None where it does not say.
    """

    registered: bool | None
    active: bool | None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.registered is True and self.active is not False


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The agent is in the registry, and active as far as that shows.

    Attributes:
        did: what was done or would be, for people; empty where nothing was missing.
        hash: of the transaction, or None where none was sent.
        cost_wei: of it.
    """

    did: str
    hash: str | None = None
    cost_wei: int = 0


class AgentRegistry:
    """The agent's place in the contract.

    Args:
        address: of the contract.
        agent: checksummed address.
        name: that the agent is registered by.
        chain: the endpoints.
        queue: sends the transaction.
    """

    def __init__(self, address: str, agent: str, name: str, chain: ChainReader, queue: TransactionQueue) -> None:
        self._address = address
        self._agent = agent
        self._name = name
        self._chain = chain
        self._queue = queue

    def adopt(self, name: str) -> None:
        """Register the agent by this name, should it have to be registered."""
        self._name = name

    async def standing(self) -> Standing:
        """Ask the contract.

        Raises:
            RpcError: the chain cannot be asked.
        """
        return Standing(
            await self._says(calldata.REGISTRY_IS_REGISTERED), await self._says(calldata.REGISTRY_IS_ACTIVE)
        )

    async def enrol(self, *, dry_run: bool = False) -> Enrolled | ChainProblem:
        """Do what is missing: a registration, or a heartbeat for one that went stale. Nothing is done twice.

        Args:
            dry_run: only find out whether it would succeed.

        Raises:
            RpcError: the chain cannot be asked.
        """
        standing = await self.standing()
        if standing.registered is None:
            return ChainProblem(
                "registry-unreadable",
                f"The AgentRegistry contract at {self._address} does not answer",
                "Correct chain.agent_registry.",
            )
        if standing.complete:
            return Enrolled("")
        order, did = self._registration() if not standing.registered else self._heartbeat()
        if dry_run:
            simulated = await self._chain.call(order.to, order.data, sender=self._agent, gas=order.gas)
            return _would_fail(did, simulated.text) if isinstance(simulated, CallFailed) else Enrolled(did)
        try:
            return _result(did, await self._queue.submit(order))
        except PlumisedError as error:
            return ChainProblem.of(error)

    def _registration(self) -> tuple[Order, str]:
        data = calldata.registry_register_agent(calldata.registry_identifier(self._name), self._name)
        return self._order(data, REGISTRATION_GAS), f"register {self._agent} in the AgentRegistry"

    def _heartbeat(self) -> tuple[Order, str]:
        return self._order(calldata.REGISTRY_HEARTBEAT, HEARTBEAT_GAS), f"wake {self._agent} in the AgentRegistry"

    def _order(self, data: bytes, gas: int) -> Order:
        return Order(Purpose.REGISTRY, self._address, data, gas, depth=Purpose.REGISTRY.depth)

    async def _says(self, selector: bytes) -> bool | None:
        answer = await self._chain.call(self._address, calldata.of_address(selector, self._agent), sender=self._agent)
        return None if isinstance(answer, CallFailed) else calldata.read_bool(answer)


def _result(did: str, outcome: Outcome) -> Enrolled | ChainProblem:
    if isinstance(outcome, Confirmed):
        return Enrolled(did, outcome.hash, outcome.cost_wei)
    if isinstance(outcome, Failed):
        return outcome.problem
    return ChainProblem(
        "registry-reverted", f"To {did} was mined and failed: {outcome.hash}", "Look the transaction up."
    )


def _would_fail(did: str, text: str) -> ChainProblem:
    return ChainProblem(
        "transaction-would-fail", f"To {did} would fail: {text}", "It is nothing that repeats by itself."
    )
