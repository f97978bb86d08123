"""The typed client of a node's admin port."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self, TypedDict, TypeVar, Unpack

import aiohttp
from pydantic import BaseModel, JsonValue

from tests.devnet.chain import model
from tests.devnet.chain.model import Fault, FaultMode, Mining, MiningMode, RewardSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from tests.devnet.chain.mempool import BelowBaseFee

Answer = TypeVar("Answer")
Item = TypeVar("Item", bound=BaseModel)

PATIENCE_S: Final = 20.0
_POLL_S: Final = 0.5


class FaultDetails(TypedDict, total=False):
    """What some modes of model.Fault take."""

    delay_s: float
    code: int
    message: str
    result: JsonValue
    chain_id: int
    blocks_behind: int


class AdminError(Exception):
    """The node did not do what it was asked."""


class Admin:
    """Changes a devnet chain and asks about it. Used as an async context manager, in one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(self._url, timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # Blocks

    async def mine(self, blocks: int = 1, *, empty: bool = False) -> None:
        """Mine at once, whatever the mode; `empty` leaves waiting transactions waiting."""
        await self._post("mine", model.Mine(blocks=blocks, empty=empty))

    async def set_mining(self, mode: MiningMode, interval_s: float = 0.2) -> None:
        await self._post("mining", Mining(mode=mode, interval_s=interval_s))

    async def reorganise(self, depth: int, blocks: int | None = None, *, forget: bool = False) -> None:
        """Replace the last `depth` blocks by empty ones (`blocks`, by default one more).

        Their transactions return to the pool (where instant mining takes them again at once), or are forgotten.
        """
        await self._post("reorganise", model.Reorganisation(depth=depth, blocks=blocks, forget=forget))

    async def advance_clock(self, seconds: int) -> None:
        """Move the chain's clock and mine an empty block, so that the state shows it."""
        await self._post("clock", model.ClockStep(seconds=seconds))

    # Fees, accounts, rewards, agents: each of these mines an empty block that holds the change.

    async def set_fees(
        self, *, base_fee: int | None = None, min_tip: int | None = None, below_base_fee: BelowBaseFee | None = None
    ) -> None:
        """Set fees, in wei per gas, from the next transaction on."""
        await self._post("fees", model.Fees(base_fee=base_fee, min_tip=min_tip, below_base_fee=below_base_fee))

    async def set_balance(self, address: str, wei: int) -> None:
        await self._post("balance", model.Balance(address=address, wei=wei))

    async def fund(self, address: str, wei: int) -> None:
        """Add to a balance."""
        await self._post("fund", model.Balance(address=address, wei=wei))

    async def set_reward(
        self, agent: str, wei: int, *, source: RewardSource = RewardSource.POOL, from_epoch: int = 0
    ) -> None:
        """Set what an agent can claim; RewardPool's once the chain is in epoch `from_epoch`."""
        await self._post("reward", model.Reward(agent=agent, wei=wei, source=source, from_epoch=from_epoch))

    async def set_contribution(self, agent: str, words: tuple[int, int, int, int, int, int]) -> None:
        await self._post("contribution", model.Contribution(agent=agent, words=words))

    async def register(self, agent: str, name: str) -> None:
        """Register an agent at 0x21 at nobody's cost, as if it had done so itself; one that is registered stays so."""
        await self._post("register", model.Sponsorship(agent=agent, name=name))

    # The pool

    async def pool(self) -> tuple[model.PoolInfo, ...]:
        """List the waiting transactions in the order of their arrival."""
        return await self._list("pool", model.PoolInfo)

    async def drop(self, tx_hash: str) -> bool:
        """Forget a waiting transaction; False when there is none of that hash."""
        return await self._post("drop", model.TransactionHash(hash=tx_hash)) is True

    # Faults and calls

    async def fault(
        self,
        mode: FaultMode,
        *methods: str,
        count: int | None = None,
        for_s: float | None = None,
        **details: Unpack[FaultDetails],
    ) -> None:
        """Switch on a fault, for all calls or for `methods` only; see model.Fault."""
        await self._post("faults", Fault(mode=mode, methods=methods, count=count, for_s=for_s, **details))

    async def clear_faults(self) -> None:
        """Switch all faults off; requests that hang are reset."""
        await self._delete("faults")

    async def faults(self) -> tuple[Fault, ...]:
        """List the faults that are on."""
        return await self._list("faults", Fault)

    async def calls(self, *methods: str) -> tuple[model.SeenCall, ...]:
        """List the JSON-RPC calls that came in, struck by faults or not, oldest first; of `methods` only, if given."""
        seen = await self._list("calls", model.SeenCall)
        return tuple(call for call in seen if not methods or call.method in methods)

    async def forget_calls(self) -> None:
        await self._delete("calls")

    # Questions

    async def status(self) -> model.Status:
        return model.Status.model_validate(await self._get("status"))

    async def agents(self) -> tuple[model.AgentInfo, ...]:
        """List what is registered at 0x21."""
        return await self._list("agents", model.AgentInfo)

    async def agent(self, address: str) -> model.AgentInfo | None:
        """Find one registered agent."""
        return next((each for each in await self.agents() if each.address.lower() == address.lower()), None)

    async def heartbeats(self, agent: str | None = None) -> tuple[model.HeartbeatInfo, ...]:
        """List the successful heartbeats at 0x22, oldest first, of one agent or of all."""
        every = await self._list("heartbeats", model.HeartbeatInfo)
        return tuple(each for each in every if agent is None or each.agent.lower() == agent.lower())

    async def inferences(self) -> tuple[model.InferenceInfo, ...]:
        """List the successful verifyInference transactions at 0x20, oldest first."""
        return await self._list("inferences", model.InferenceInfo)

    async def claims(self) -> tuple[model.ClaimInfo, ...]:
        """List the successful claims, oldest first."""
        return await self._list("claims", model.ClaimInfo)

    async def transactions(self, sender: str | None = None) -> tuple[model.TransactionInfo, ...]:
        """List the mined transactions, failed ones too, oldest first, of one sender or of all."""
        every = await self._list("transactions", model.TransactionInfo)
        return tuple(each for each in every if sender is None or each.sender.lower() == sender.lower())

    async def wait_for(
        self,
        question: Callable[[], Awaitable[Answer]],
        fits: Callable[[Answer], bool] = bool,
        patience_s: float = PATIENCE_S,
    ) -> Answer:
        """Ask again after each change of the chain, pool or calls until the answer fits, and return it.

        Raises AdminError with the last answer when that takes longer than `patience_s`.
        """
        deadline = time.monotonic() + patience_s
        version = -1
        while True:
            seen = await self._version(version, 0)
            answer = await question()
            if fits(answer):
                return answer
            left = deadline - time.monotonic()
            if left <= 0:
                raise AdminError(f"not so within {patience_s} s: {answer!r}")
            version = await self._version(seen, min(left, _POLL_S))

    async def _version(self, since: int, timeout_s: float) -> int:
        answer = await self._get("changes", since=str(since), timeout_s=str(timeout_s))
        version = answer.get("version") if isinstance(answer, dict) else None
        if not isinstance(version, int):
            raise AdminError(f"no version: {answer!r}")
        return version

    # HTTP

    async def _get(self, name: str, **query: str) -> JsonValue:
        return await self._request("GET", name, None, query)

    async def _list(self, name: str, kind: type[Item]) -> tuple[Item, ...]:
        answer = await self._get(name)
        if not isinstance(answer, list):
            raise AdminError(f"no list of {name}: {answer!r}")
        return tuple(kind.model_validate(each) for each in answer)

    async def _post(self, name: str, wanted: BaseModel) -> JsonValue:
        return await self._request("POST", name, wanted.model_dump_json(), {})

    async def _delete(self, name: str) -> None:
        await self._request("DELETE", name, None, {})

    async def _request(self, verb: str, name: str, body: str | None, query: dict[str, str]) -> JsonValue:
        if self._session is None:
            raise AdminError("used outside of its context")
        async with self._session.request(verb, f"/devnet/{name}", data=body, params=query) as response:
            if response.status != 200:
                raise AdminError(f"{name}: {response.status} {await response.text()}")
            answer: JsonValue = await response.json()
            return answer
