"""The node's admin port, out of reach of its faults: what a test changes and what it asks.

POST /devnet/NAME with a JSON object does something, GET /devnet/NAME answers something; the types are in model.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web
from eth_typing import Address
from pydantic import BaseModel, JsonValue, ValidationError

from tests.devnet.chain import model, queries
from tests.devnet.chain.contracts import REWARD_POOL, contribution_slots, reward_slots
from tests.devnet.chain.native import Storage
from tests.devnet.chain.precompiles import CLAIM_REWARD, REGISTER_AGENT, due_slot, enrol

if TYPE_CHECKING:
    from eth.abc import StateAPI

    from tests.devnet.chain.faults import Active
    from tests.devnet.chain.node import Node
    from tests.devnet.chain.rpc_server import RpcPort

Request = TypeVar("Request", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminPort:
    """Serves the admin interface of one node, and ends the faults that end by themselves."""

    def __init__(self, node: Node, rpc: RpcPort, host: str, port: int) -> None:
        self._node = node
        self._expiries: set[asyncio.Task[None]] = set()
        self._rpc = rpc
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=0.1)
        self._host, self._port = host, port

    async def start(self) -> int:
        """Listen, and return the port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        await self._runner.cleanup()
        expiries = tuple(self._expiries)
        for expiry in expiries:
            expiry.cancel()
        await asyncio.gather(*expiries, return_exceptions=True)

    def _application(self) -> web.Application:
        node, chain = self._node, self._node.chain
        app = web.Application()
        lists: dict[str, Callable[[], Sequence[BaseModel]]] = {
            "agents": lambda: queries.agents(chain),
            "heartbeats": lambda: queries.heartbeats(chain),
            "inferences": lambda: queries.inferences(chain),
            "claims": lambda: queries.claims(chain),
            "transactions": lambda: queries.transactions(chain),
            "pool": lambda: queries.pool(chain),
            "calls": lambda: tuple(node.calls),
            "faults": lambda: node.board.faults,
        }
        for name, read in lists.items():
            app.router.add_get(f"/devnet/{name}", _answering(read))
        app.router.add_get("/devnet/status", self._status)
        app.router.add_get("/devnet/changes", self._changes)
        commands: dict[str, Handler] = {
            "faults": _taking(model.Fault, self._add_fault),
            "mining": _taking(model.Mining, self._set_mining),
            "mine": _taking(model.Mine, self._mine),
            "fees": _taking(model.Fees, self._set_fees),
            "clock": _taking(model.ClockStep, self._step_clock),
            "balance": _taking(model.Balance, self._set_balance),
            "fund": _taking(model.Balance, self._fund),
            "reward": _taking(model.Reward, self._set_reward),
            "contribution": _taking(model.Contribution, self._set_contribution),
            "register": _taking(model.Sponsorship, self._register),
            "reorganise": _taking(model.Reorganisation, self._reorganise),
            "drop": _taking(model.TransactionHash, self._drop),
        }
        for name, handler in commands.items():
            app.router.add_post(f"/devnet/{name}", handler)
        app.router.add_delete("/devnet/faults", self._clear_faults)
        app.router.add_delete("/devnet/calls", self._forget_calls)
        return app

    async def _status(self, _request: web.Request) -> web.Response:
        return web.json_response(queries.status(self._node).model_dump(mode="json"))

    async def _changes(self, request: web.Request) -> web.Response:
        since, timeout_s = int(request.query.get("since", "-1")), float(request.query.get("timeout_s", "10"))
        return web.json_response({"version": await self._node.wait_for_change(since, timeout_s)})

    async def _add_fault(self, fault: model.Fault) -> JsonValue:
        active = self._node.board.add(fault, self._node.chain.head.number)
        if fault.for_s is not None:
            expiry = asyncio.create_task(self._expire(active, fault.for_s))
            self._expiries.add(expiry)
            expiry.add_done_callback(self._expiries.discard)
        await self._rpc.follow_faults()
        return None

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._node.board.clear()
        await self._rpc.follow_faults()
        return web.json_response(None)

    async def _forget_calls(self, _request: web.Request) -> web.Response:
        self._node.calls.clear()
        return web.json_response(None)

    async def _set_mining(self, mining: model.Mining) -> JsonValue:
        self._node.set_mining(mining)
        return None

    async def _mine(self, wanted: model.Mine) -> JsonValue:
        for _ in range(wanted.blocks):
            self._node.chain.mine(empty=wanted.empty)
        self._node.settle()
        return self._node.chain.head.number

    async def _set_fees(self, fees: model.Fees) -> JsonValue:
        conditions = self._node.chain.conditions
        if fees.base_fee is not None:
            conditions.base_fee = fees.base_fee
        if fees.min_tip is not None:
            conditions.min_tip = fees.min_tip
        if fees.below_base_fee is not None:
            conditions.below_base_fee = fees.below_base_fee
        self._node.chain.mine(empty=True)
        self._node.settle()
        return None

    async def _step_clock(self, step: model.ClockStep) -> JsonValue:
        self._node.chain.conditions.clock_offset_s += step.seconds
        self._edit(None)
        return None

    async def _set_balance(self, balance: model.Balance) -> JsonValue:
        account = Address(bytes.fromhex(balance.address[2:]))
        self._edit(lambda state: state.set_balance(account, balance.wei))
        return None

    async def _fund(self, balance: model.Balance) -> JsonValue:
        account = Address(bytes.fromhex(balance.address[2:]))
        self._edit(lambda state: state.delta_balance(account, balance.wei))
        return None

    async def _set_reward(self, reward: model.Reward) -> JsonValue:
        agent = bytes.fromhex(reward.agent[2:])

        def edit(state: StateAPI) -> None:
            if reward.source is model.RewardSource.PRECOMPILE:
                Storage(state, CLAIM_REWARD).write(due_slot(agent), reward.wei)
                return
            for slot, value in zip(reward_slots(agent), (reward.wei, reward.from_epoch), strict=True):
                Storage(state, REWARD_POOL).write(slot, value)

        self._edit(edit)
        return None

    async def _set_contribution(self, contribution: model.Contribution) -> JsonValue:
        agent = bytes.fromhex(contribution.agent[2:])

        def edit(state: StateAPI) -> None:
            for slot, value in zip(contribution_slots(agent), contribution.words, strict=True):
                Storage(state, REWARD_POOL).write(slot, value)

        self._edit(edit)
        return None

    async def _register(self, wanted: model.Sponsorship) -> JsonValue:
        agent, name = bytes.fromhex(wanted.agent[2:]), wanted.name.encode().ljust(32, b"\0")
        self._edit(lambda state: enrol(Storage(state, REGISTER_AGENT), agent, name))
        return None

    async def _reorganise(self, wanted: model.Reorganisation) -> JsonValue:
        blocks = wanted.depth + 1 if wanted.blocks is None else wanted.blocks
        try:
            self._node.chain.reorganise(wanted.depth, blocks, forget=wanted.forget)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        self._node.settle()
        return None

    async def _drop(self, transaction: model.TransactionHash) -> JsonValue:
        dropped = self._node.chain.pool.remove(bytes.fromhex(transaction.hash.removeprefix("0x")))
        self._node.settle()
        return dropped

    def _edit(self, edit: Callable[[StateAPI], None] | None) -> None:
        """Change the state in an otherwise empty block of its own, so that every answer agrees with it."""
        self._node.chain.mine(empty=True, edit=edit)
        self._node.settle()

    async def _expire(self, active: Active, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._node.board.remove(active)
        await self._rpc.follow_faults()
        self._node.touch()


def _answering(read: Callable[[], Sequence[BaseModel]]) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.json_response([each.model_dump(mode="json") for each in read()])

    return answer


def _taking(kind: type[Request], do: Callable[[Request], Awaitable[JsonValue]]) -> Handler:
    async def take(request: web.Request) -> web.StreamResponse:
        try:
            wanted = kind.model_validate_json(await request.read())
        except ValidationError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        return web.json_response(await do(wanted))

    return take
