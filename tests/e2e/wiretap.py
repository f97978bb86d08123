"""What nodes and the Oracle say to each other: an HTTP proxy on this machine that keeps every exchange."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from ipaddress import IPv4Address

_TIMEOUT_S: Final = 120.0
_HOP_BY_HOP: Final = frozenset({"connection", "content-length", "transfer-encoding", "host"})


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    method: str
    path: str
    body: str
    status: int
    answer: str

    @property
    def accepted(self) -> bool:
        """Whether the answer is a success."""
        return self.status < 300

    def document(self) -> dict[str, object]:
        """The request's body as JSON."""
        document: dict[str, object] = json.loads(self.body)
        return document


@dataclass
class Wiretap:
    """A running proxy.

    Attributes:
        url: for nodes.
        exchanges: those that the Oracle answered, oldest first.
    """

    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    def posted(self, path: str) -> list[Exchange]:
        """The reports and announcements to a path that were accepted."""
        return [each for each in self.exchanges if each.method == "POST" and each.path == path and each.accepted]


@contextlib.asynccontextmanager
async def tapping(target: str, listen: IPv4Address) -> AsyncIterator[Wiretap]:
    """A proxy before the Oracle at `target`, on an address of this machine."""
    tap = Wiretap()
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session:

        async def pass_on(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
            try:
                async with session.request(
                    request.method, target + request.path_qs, data=body, headers=headers
                ) as response:
                    answer = await response.read()
            except (aiohttp.ClientError, OSError):
                # The node sees what the proxy saw: a connection that ends without an answer.
                if request.transport is not None:
                    request.transport.abort()
                raise
            exchange = Exchange(request.method, request.path, body.decode(), response.status, answer.decode())
            tap.exchanges.append(exchange)
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=response.status, body=answer, headers=kept)

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", pass_on)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, str(listen), 0).start()
        tap.url = f"http://{listen}:{runner.addresses[0][1]}"
        try:
            yield tap
        finally:
            await runner.cleanup()
