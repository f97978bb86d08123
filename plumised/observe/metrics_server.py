"""Serves /metrics and /health over TCP."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Self

from aiohttp import web

from plumised.errors import OperatorError
from plumised.observe.checks import Severity, problems
from plumised.observe.metrics import CONTENT_TYPE, exposition

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from plumised.observe.status import Status

CLOSE_TIMEOUT_S = 2.0


class MetricsListenError(OperatorError):
    """The address of [metrics] listen cannot be listened on."""

    code = "metrics-listen"


class MetricsServer:
    """An HTTP server, from entering to leaving the context.

    `GET /metrics` is the Prometheus exposition. `GET /health` is 200 while the node serves and no check finds an
    error, else 503; its body is `{"serving": bool, "problems": [codes]}`.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes any free one.
        status: the status at the time of the call; quick, from memory.
    """

    def __init__(self, host: str, port: int, status: Callable[[], Status]) -> None:
        self._host = host
        self._port = port
        self._status = status
        application = web.Application()
        application.add_routes([web.get("/metrics", self._metrics), web.get("/health", self._health)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._runner.addresses[0][1])

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            MetricsListenError: the address cannot be listened on.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise _unusable(self._host, self._port, error) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=exposition(self._status()).encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, _request: web.Request) -> web.Response:
        status = self._status()
        found = problems(status)
        healthy = status.serving and all(problem.severity is not Severity.ERROR for problem in found)
        answer = {"serving": status.serving, "problems": [problem.code for problem in found]}
        return web.json_response(answer, status=200 if healthy else 503, dumps=json.dumps)


def _unusable(host: str, port: int, error: OSError) -> MetricsListenError:
    why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return MetricsListenError(
        f"Metrics cannot be served at {host} port {port}: {why}",
        'Choose another address for metrics.listen, since each node of a machine needs its own, or set it to "off".',
    )
