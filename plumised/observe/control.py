"""The control socket: how `plumised status`, `wait`, `stop`, `reload` and `restart-engine` reach the daemon.

HTTP over a unix socket. Whoever may open the socket (mode 0660) may do everything, except for the daemon's own engine.

    GET  /v1/status[?format=text]               the status, as JSON or as text
    GET  /v1/wait?for=CONDITION&timeout_s=S     the status once CONDITION holds: serving, registered, stopped
    POST /v1/stop                               have the daemon stop
    POST /v1/restart-engine                     have the engine stopped and started again
    POST /v1/reload[?timeout_s=S]               have the configuration read again and applied
    GET  /v1/rewards                            what the chain says of the agent's rewards
    POST /v1/claim[?dry_run=1&timeout_s=S]      claim them
    POST /v1/register[?registry=1&dry_run=1&timeout_s=S]    register, in the AgentRegistry contract with registry=1

An answer other than 200 is `{"code", "message", "remedy"}`; a reload that the operator must do something about is
answered with 422 and has `"reasons"` beside them, one complete line each.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, Self

from aiohttp import web

from plumised.config import ConfigError
from plumised.errors import OperatorError, PlumisedError
from plumised.observe.control_socket import ControlSocket
from plumised.observe.door import Door
from plumised.observe.rendering import one_line, to_json, to_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from types import TracebackType

    from plumised.observe.deeds import Deed, RewardsAnswer
    from plumised.observe.reloaded import Reloaded
    from plumised.observe.status import Status

_log = logging.getLogger(__name__)

LONGEST_WAIT_S = 86400.0
DEFAULT_WAIT_S = 600.0
MAX_WAITS = 64
"""How many may wait at a time."""
POLL_S = 0.2
"""How often the status is looked at for those who wait."""
CLOSE_TIMEOUT_S = 2.0

CONDITIONS: dict[str, Callable[[Status], bool]] = {
    "serving": lambda status: status.serving,
    "registered": lambda status: status.chain.registered is True,
    "stopped": lambda _status: False,
}
"""What can be waited for. `stopped` comes true when the server closes."""


class Controlled(Protocol):
    """What the control socket reads and steers."""

    def status(self) -> Status:
        """The status at this moment, quickly, from memory."""

    def stop(self) -> None:
        """Have the daemon stop; returns at once."""

    def restart_engine(self) -> None:
        """Have the engine stopped and started again; returns at once."""

    async def reload(self) -> Reloaded:
        """Read the configuration again and go by it.

        Raises:
            OperatorError: nothing was changed.
            PlumisedError: something else hinders it.
        """

    async def rewards(self) -> RewardsAnswer:
        """Ask the chain for the rewards. Raises PlumisedError."""

    async def claim(self, *, dry_run: bool) -> Deed:
        """Claim rewards; goes on when its caller is cancelled. Raises PlumisedError."""

    async def register(self, *, registry: bool, dry_run: bool) -> Deed:
        """Register the agent; goes on when its caller is cancelled. Raises PlumisedError."""


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.response = web.json_response(
            {"code": code, "message": message, "remedy": remedy}, status=status, dumps=json.dumps
        )


class ControlServer:
    """The server at the control socket, from entering to leaving the context.

    Args:
        path: of the socket.
        node: what is read and steered.
        closed_to: tells by its pid which process is not let in, see `plumised.observe.door`.
    """

    def __init__(self, path: Path, node: Controlled, closed_to: Callable[[int], bool]) -> None:
        self._socket = ControlSocket(path)
        self._closed_to = closed_to
        self._listening: asyncio.Server | None = None
        self._node = node
        self._closing = asyncio.Event()
        self._waits = 0
        application = web.Application(middlewares=[_errors])
        application.add_routes(
            [
                web.get("/v1/status", self._get_status),
                web.get("/v1/wait", self._wait),
                web.post("/v1/stop", self._stop),
                web.post("/v1/restart-engine", self._restart_engine),
                web.post("/v1/reload", self._reload),
                web.get("/v1/rewards", self._rewards),
                web.post("/v1/claim", self._claim),
                web.post("/v1/register", self._register),
            ]
        )
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=CLOSE_TIMEOUT_S
        )

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ControlSocketError: the socket cannot be made, or a living daemon has it.
        """
        listening = await asyncio.to_thread(self._socket.open)
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise AssertionError("a runner that is set up has a server")
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(Door(server, self._closed_to), sock=listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer those who wait, and give the socket back."""
        self._closing.set()
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()
        await asyncio.to_thread(self._socket.close)

    async def _get_status(self, request: web.Request) -> web.Response:
        status = self._node.status()
        match request.query.get("format", "json"):
            case "json":
                return web.Response(text=to_json(status), content_type="application/json")
            case "text":
                return web.Response(text=to_text(status))
            case _:
                raise _RefusedError(
                    HTTPStatus.BAD_REQUEST, "control-request", "There is no such format", "Ask for json or text."
                )

    async def _wait(self, request: web.Request) -> web.Response:
        condition = request.query.get("for", "")
        if condition not in CONDITIONS:
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST,
                "control-request",
                "There is no such condition to wait for",
                f"Wait for one of {', '.join(CONDITIONS)}.",
            )
        timeout_s = _timeout(request.query.get("timeout_s"))
        if self._waits >= MAX_WAITS:
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "control-busy",
                f"{MAX_WAITS} clients wait already",
                "End some of them.",
            )
        self._waits += 1
        try:
            async with asyncio.timeout(timeout_s):
                held = await self._until(condition)
        except TimeoutError:
            raise _RefusedError(
                HTTPStatus.REQUEST_TIMEOUT,
                "timeout",
                f"The node is not {condition} after {timeout_s:g} s. {one_line(self._node.status())}",
                "Look at plumised status, or wait longer with --timeout.",
            ) from None
        finally:
            self._waits -= 1
        if not held:
            raise _RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "control-stopping",
                f"The daemon stops, so the node will not be {condition}",
                "Start it again.",
            )
        return web.Response(text=to_json(self._node.status()), content_type="application/json")

    async def _until(self, condition: str) -> bool:
        """Return whether the condition holds, as soon as it does or the server closes."""
        holds = CONDITIONS[condition]
        while not holds(self._node.status()):
            try:
                async with asyncio.timeout(POLL_S):
                    await self._closing.wait()
            except TimeoutError:
                continue
            return condition == "stopped"
        return True

    async def _stop(self, _request: web.Request) -> web.Response:
        _log.info("Told to stop over the control socket")
        self._node.stop()
        return web.json_response({"stopping": True})

    async def _restart_engine(self, _request: web.Request) -> web.Response:
        _log.info("Told to restart the engine over the control socket")
        self._node.restart_engine()
        return web.json_response({"restarting": True})

    async def _reload(self, request: web.Request) -> web.Response:
        timeout_s = _timeout(request.query.get("timeout_s"))
        try:
            async with asyncio.timeout(timeout_s):
                done = await self._node.reload()
        except OperatorError as error:
            return _not_taken(error)
        except TimeoutError:
            raise _RefusedError(
                HTTPStatus.REQUEST_TIMEOUT,
                "timeout",
                f"The reload has not come to its end after {timeout_s:g} s",
                "Look at the log and plumised status, or wait longer with --timeout.",
            ) from None
        return web.Response(text=done.to_json(), content_type="application/json")

    async def _rewards(self, _request: web.Request) -> web.Response:
        return web.Response(text=(await self._node.rewards()).to_json(), content_type="application/json")

    async def _claim(self, request: web.Request) -> web.Response:
        return await _done(self._node.claim(dry_run=_flag(request, "dry_run")), request)

    async def _register(self, request: web.Request) -> web.Response:
        registry, dry_run = _flag(request, "registry"), _flag(request, "dry_run")
        return await _done(self._node.register(registry=registry, dry_run=dry_run), request)


async def _done(work: Awaitable[Deed], request: web.Request) -> web.Response:
    """The answer to something that may take as long as a transaction does."""
    timeout_s = _timeout(request.query.get("timeout_s"))
    try:
        async with asyncio.timeout(timeout_s):
            deed = await work
    except TimeoutError:
        raise _RefusedError(
            HTTPStatus.REQUEST_TIMEOUT,
            "transaction-pending",
            f"It is not done after {timeout_s:g} s, and goes on",
            "Look at plumised status, or wait longer with --timeout.",
        ) from None
    return web.Response(text=deed.to_json(), content_type="application/json")


def _not_taken(error: OperatorError) -> web.Response:
    reasons = error.problems if isinstance(error, ConfigError) else (error,)
    answer = {"code": error.code, "message": error.message, "remedy": error.remedy}
    return web.json_response(
        {**answer, "reasons": [str(reason) for reason in reasons]},
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        dumps=json.dumps,
    )


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name) == "1"


def _timeout(text: str | None) -> float:
    try:
        timeout_s = DEFAULT_WAIT_S if text is None else float(text)
    except ValueError:
        timeout_s = math.nan
    if not 0 <= timeout_s <= LONGEST_WAIT_S:
        raise _RefusedError(
            HTTPStatus.BAD_REQUEST,
            "control-request",
            "The time to wait is not a number of seconds",
            f"Give a number from 0 to {LONGEST_WAIT_S:g}.",
        )
    return timeout_s


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Every error as JSON."""
    try:
        return await handler(request)
    except _RefusedError as refused:
        return refused.response
    except PlumisedError as error:
        return _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, error.code, error.message, error.remedy).response
    except web.HTTPException as error:
        return _RefusedError(
            HTTPStatus(error.status),
            "control-request",
            f"{request.method} {request.path[:100]} is nothing that this daemon answers",
            "Use the command line of the same version as the daemon.",
        ).response
