"""Answers that go wrong on the wire, beside the ordinary ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from starlette.responses import JSONResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from tests.devnet.oracle.views import Fault

ABORT = "devnet.abort"
"""The ASGI extension under which AbortableProtocol offers to reset the connection."""


class AbortableProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with a way for the application to reset the connection it answers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base class does
        """Hand the transport's abort to the application in each request's scope."""
        super().connection_made(transport)
        app = self.app

        async def with_abort(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[ABORT] = transport.abort
            await app(scope, receive, send)

        self.app = with_abort


class Dropped(Response):
    """No answer: the connection is reset, in the middle of the true answer where there is one."""

    def __init__(self, truncated: Response | None = None) -> None:
        super().__init__()
        self._truncated = truncated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._truncated is not None:
            body = bytes(self._truncated.body)
            await send(
                {
                    "type": "http.response.start",
                    "status": self._truncated.status_code,
                    "headers": self._truncated.raw_headers,
                }
            )
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            # The half has to be on the wire before the reset.
            await asyncio.sleep(self.flush_s)
        scope["extensions"][ABORT]()
        while (await receive())["type"] != "http.disconnect":
            pass

    flush_s: ClassVar[float] = 0.05


def asking_to_wait(answer: Response, fault: Fault) -> Response:
    """`answer`, with the Retry-After header that the fault wants."""
    if fault.retry_after is not None:
        answer.headers["retry-after"] = fault.retry_after
    return answer


def faulty(fault: Fault, answer: Response | None) -> Response:
    """The answer that a fault gives, in place of `answer` if there is one already."""
    match fault.kind:
        case "drop":
            return Dropped()
        case "truncate":
            return Dropped(
                truncated=answer or JSONResponse({"success": True, "message": "", "shouldReset": False}, 201)
            )
        case "garbage":
            status = 200 if answer is None else answer.status_code
            return Response(b'<html>\x00\xff{"success":', status, media_type="application/json")
        case "error-body":
            return JSONResponse({"status": "error", "message": fault.message})
        case "status":
            page = Response(f"<html><h1>{fault.message}</h1></html>", fault.status, media_type="text/html")
            return asking_to_wait(page, fault)
        case _:
            raise ValueError(f"{fault.kind} gives no answer")
