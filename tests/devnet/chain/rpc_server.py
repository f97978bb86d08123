"""The node's JSON-RPC port: HTTP, batches, and the faults that strike on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import TYPE_CHECKING, Final

from aiohttp import web

from tests.devnet.chain.blockchain import CHAIN_ID
from tests.devnet.chain.model import FaultMode, SeenCall
from tests.devnet.chain.parameters import RpcError
from tests.devnet.chain.rpc import Rpc, View

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tests.devnet.chain.faults import Active
    from tests.devnet.chain.node import Node

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
MAX_BATCH: Final = 1000
MAX_BODY_BYTES: Final = 5 * 1024 * 1024
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class RpcPort:
    """Serves a node's JSON-RPC on one TCP port, which can stop listening and start again."""

    def __init__(self, node: Node, host: str, port: int) -> None:
        self._node = node
        self._rpc = Rpc(node.chain, node.settle)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._site: web.SockSite | None = None
        # A bound socket that never listens keeps the port ours while nothing listens on it.
        self._claim = _bound(host, port)
        self.host, self.port = self._claim.getsockname()[:2]

    async def start(self) -> None:
        await self._runner.setup()
        await self.follow_faults()

    async def follow_faults(self) -> None:
        """Listen, or stop listening and reset what is open, as the board of faults says."""
        if self._node.board.refusing:
            if self._site is not None:
                await self._site.stop()
                self._site = None
                for connection in self._runner.server.connections if self._runner.server else ():
                    _reset(connection.transport)
        elif self._site is None:
            self._site = web.SockSite(self._runner, _bound(self.host, self.port))
            await self._site.start()

    async def close(self) -> None:
        await self._runner.cleanup()
        self._claim.close()

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return web.Response(status=415, text="invalid content type, only application/json is supported")
        try:
            payload: JsonValue = json.loads(await request.read())
        except ValueError:
            return _json(_failure(None, RpcError(PARSE_ERROR, "parse error")))
        calls = payload if isinstance(payload, list) else [payload]
        methods = [str(each.get("method")) for each in calls if isinstance(each, dict)]
        struck = self._node.board.strike(methods)
        modes = tuple(active.mode for active in struck)
        for each in calls:
            if isinstance(each, dict):
                self._node.calls.append(
                    SeenCall(method=str(each.get("method")), params=each.get("params"), faults=modes)
                )
        self._node.touch()
        instead = await self._fail(request, struck)
        if instead is not None:
            return instead
        if not calls or len(calls) > MAX_BATCH:
            return _json(_failure(None, RpcError(INVALID_REQUEST, "empty batch" if not calls else "batch too large")))
        answers: list[JsonValue] = [self._answer(each, struck) for each in calls]
        if FaultMode.LOSE_REPLY in modes:
            return _lost(request)
        return _json(answers if isinstance(payload, list) else answers[0])

    async def _fail(self, request: web.Request, struck: tuple[Active, ...]) -> web.StreamResponse | None:
        """Do to the request what the faults say; None when it is to be answered after all."""
        for active in struck:
            match active.mode:
                case FaultMode.DELAY:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(active.cleared.wait(), active.fault.delay_s)
                case FaultMode.HANG:
                    await active.cleared.wait()
                    return _lost(request)
                case FaultMode.DROP:
                    return _lost(request)
                case FaultMode.GARBAGE:
                    return web.Response(text="<html>upstream says hello</html>")
                case FaultMode.STATUS_500 | FaultMode.STATUS_429:
                    return web.Response(status=int(active.mode), text="try again later")
                case _:
                    pass
        return None

    def _answer(self, call: JsonValue, struck: tuple[Active, ...]) -> JsonValue:
        if not isinstance(call, dict) or not isinstance(call.get("method"), str):
            return _failure(None, RpcError(INVALID_REQUEST, "invalid request"))
        method, call_id = str(call["method"]), call.get("id")
        concerned = tuple(active for active in struck if active.concerns(method))
        for active in concerned:
            if active.mode is FaultMode.ERROR:
                return _failure(call_id, RpcError(active.fault.code, active.fault.message))
            if active.mode is FaultMode.ANSWER:
                return {"jsonrpc": "2.0", "id": call_id, "result": active.fault.result}
        try:
            result = self._rpc.answer(method, call.get("params"), _view(concerned))
        except RpcError as error:
            return _failure(call_id, error)
        return {"jsonrpc": "2.0", "id": call_id, "result": result}


def _view(struck: tuple[Active, ...]) -> View:
    by_mode = {active.mode: active for active in struck}
    stale, other = by_mode.get(FaultMode.STALE), by_mode.get(FaultMode.WRONG_CHAIN_ID)
    return View(
        height=None if stale is None else stale.stuck_at,
        chain_id=CHAIN_ID if other is None else other.fault.chain_id,
        agent_methods=FaultMode.NO_AGENT_METHODS not in by_mode,
    )


def _failure(call_id: JsonValue, error: RpcError) -> dict[str, JsonValue]:
    return {"jsonrpc": "2.0", "id": call_id, "error": error.as_json()}


def _json(answer: JsonValue) -> web.Response:
    return web.json_response(answer)


def _lost(request: web.Request) -> web.Response:
    """Reset the connection; the response that aiohttp asks for goes nowhere."""
    _reset(request.transport)
    return web.Response(status=500)


def _reset(transport: asyncio.BaseTransport | None) -> None:
    if not isinstance(transport, asyncio.Transport):
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
