"""The Oracle's HTTP paths: the two dialects, registration, health; control.py adds those for tests and the demo."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from tests.devnet.oracle import announcement, control, metrics_v1, report_v1
from tests.devnet.oracle.answers import Dropped, asking_to_wait, faulty
from tests.devnet.oracle.faults import LetGo
from tests.devnet.oracle.fields import MAX_BODY_BYTES, Object, is_address, parse_object
from tests.devnet.oracle.refusal import Refused, no_such_path
from tests.devnet.oracle.report import Dialect
from tests.devnet.oracle.service import Service
from tests.devnet.oracle.views import Endpoint, Fault, Moment, RefusalView

HISTORY_LIMIT = 10
"""How many reports the history shows where no limit is asked for."""

_KEPT_BODY_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and how it is answered, with the faults that are on.

    Attributes:
        on: under which name faults find it.
        refusal: how a refusal is answered in this dialect.
    """

    service: Service
    on: Endpoint
    refusal: Callable[[Refused], Response]

    async def answer(self, request: Request, handle: Callable[[Object], Awaitable[Response]]) -> Response:
        """Read the request, let `handle` make the answer, and let faults spoil either."""
        raw = await _body(request)

        async def handled() -> Response:
            return await self._handled(request, raw, handle)

        try:
            response = await self._struck("before", handled, None)
            if response is None:
                response = await handled()
                if response.status_code < HTTPStatus.BAD_REQUEST:
                    response = await self._struck("after", handled, response) or response
        except LetGo:
            return Dropped()
        response.headers["date"] = formatdate(self.service.now(), usegmt=True)
        return response

    async def pause(self) -> None:
        """Hold the message between its checks and its booking, if a fault wants that."""
        await self.service.faults.hold(self.service.faults.hit(self.on, "booking"))

    async def _handled(self, request: Request, raw: bytes, handle: Callable[[Object], Awaitable[Response]]) -> Response:
        body: Object = {}
        try:
            if request.method == "POST":
                body = parse_object(raw, request.headers.get("content-type", ""))
            return await handle(body)
        except Refused as refused:
            self.service.store.add_refusal(
                RefusalView(
                    agent=_agent(body),
                    path=request.url.path,
                    status=refused.status,
                    message=(refused.message,) if isinstance(refused.message, str) else refused.message,
                    body=raw[:_KEPT_BODY_CHARACTERS].decode("utf-8", errors="replace"),
                    received_at=self.service.now(),
                )
            )
            return self.refusal(refused)

    async def _struck(
        self, when: Moment, handled: Callable[[], Awaitable[Response]], response: Response | None
    ) -> Response | None:
        faults = self.service.faults
        fault: Fault | None = faults.hit(self.on, when)
        if fault is None:
            return None
        if fault.kind in {"delay", "hang"}:
            await faults.hold(fault)
            return None
        if fault.kind == "repeat":
            again = await handled()
            return None if response is None else again
        if fault.kind == "refuse":
            return asking_to_wait(self.refusal(Refused(fault.status, fault.message)), fault)
        return faulty(fault, response)


async def _body(request: Request) -> bytes:
    """The body, or one byte more than a body may have; the rest is read and thrown away, so the answer arrives."""
    kept = b""
    async for chunk in request.stream():
        kept = (kept + chunk)[: MAX_BODY_BYTES + 1]
    return kept


def _agent(body: Object) -> str | None:
    payload = body.get("payload")
    named = body.get("wallet", body.get("address", payload.get("agent") if isinstance(payload, dict) else None))
    return named.lower() if isinstance(named, str) and is_address(named) else None


def _refusal(refused: Refused) -> Response:
    return JSONResponse(refused.body(), refused.status)


def _report_v1_refusal(refused: Refused) -> Response:
    message = refused.message if isinstance(refused.message, str) else "; ".join(refused.message)
    return JSONResponse({"status": "error", "message": message}, refused.status)


def build_app(service: Service, dialects: frozenset[Dialect]) -> FastAPI:
    """The application; a dialect that is not named is answered 404 on all of its paths."""
    app = FastAPI(title="Plumise devnet Oracle", openapi_url=None)

    @app.exception_handler(HTTPException)
    async def _no_such_path(request: Request, error: HTTPException) -> Response:
        if error.status_code in {404, 405}:
            response = _refusal(no_such_path(request.method, request.url.path))
        else:
            response = _refusal(Refused(error.status_code, str(error.detail)))
        response.headers["date"] = formatdate(service.now(), usegmt=True)
        return response

    @app.get("/health")
    async def health(request: Request) -> Response:
        async def handle(_: Object) -> Response:
            return JSONResponse({"status": "ok", "timestamp": int(service.now())})

        return await Exchange(service, "health", _refusal).answer(request, handle)

    @app.post(announcement.PATH)
    async def register(request: Request) -> Response:
        exchange = Exchange(service, "register", _refusal)

        async def handle(body: Object) -> Response:
            node = announcement.read_announcement(body, service.now())
            await exchange.pause()
            sponsored = await service.register(node)
            return JSONResponse({"success": True, "address": node.agent, "registeredOnChain": sponsored}, 201)

        return await exchange.answer(request, handle)

    if "report-v1" in dialects:
        _add_report_v1(app, service)
    if "metrics-v1" in dialects:
        _add_metrics_v1(app, service)
    control.add_paths(app, service)
    return app


def _add_report_v1(app: FastAPI, service: Service) -> None:
    @app.post(report_v1.PATH)
    async def report(request: Request) -> Response:
        exchange = Exchange(service, "report", _report_v1_refusal)

        async def handle(body: Object) -> Response:
            booked = await service.accept(report_v1.read_report(body, service.now()), exchange.pause)
            return JSONResponse({"status": "ok", "booked": booked})

        return await exchange.answer(request, handle)


def _add_metrics_v1(app: FastAPI, service: Service) -> None:
    @app.post(metrics_v1.PATH)
    async def report(request: Request) -> Response:
        exchange = Exchange(service, "report", _refusal)

        async def handle(body: Object) -> Response:
            checked = metrics_v1.read_report(body, service.now())
            await service.accept(checked, exchange.pause)
            # True now and then, without a meaning: a client that obeyed it would lose counts.
            should_reset = service.store.account(checked.agent).accepted % 2 == 0
            answer = {"success": True, "message": "Metrics reported successfully", "shouldReset": should_reset}
            return JSONResponse(answer, 201)

        return await exchange.answer(request, handle)

    @app.get("/api/v1/metrics/agents/{agent}/history")
    async def history(request: Request, agent: str) -> Response:
        async def handle(_: Object) -> Response:
            limit = request.query_params.get("limit", str(HISTORY_LIMIT))
            if not is_address(agent):
                raise Refused(400, "Invalid agent address")
            if not limit.isascii() or not limit.isdigit() or int(limit) < 1:
                raise Refused(400, ("limit must not be less than 1",))
            rows = [
                {
                    "wallet": report.agent,
                    "tokensProcessed": report.tokens,
                    "requestCount": report.requests,
                    "avgLatencyMs": report.latency_ms,
                    "uptimeSeconds": report.uptime_s,
                    "lastUpdated": report.timestamp,
                }
                for report in service.store.reports(agent.lower(), int(limit))
            ]
            return JSONResponse({"agent": agent, "metrics": rows})

        return await Exchange(service, "history", _refusal).answer(request, handle)
