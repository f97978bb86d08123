"""The devnet's Oracle without HTTP: its application, its database and its faults, in the process and time of a test."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from plumised.oracle.client import Answer, OracleClient, Reply, Silence
from tests.devnet.oracle import metrics_v1, report_v1
from tests.devnet.oracle.answers import ABORT
from tests.devnet.oracle.app import build_app
from tests.devnet.oracle.faults import Faults
from tests.devnet.oracle.registry import ListedRegistry
from tests.devnet.oracle.report import DIALECTS
from tests.devnet.oracle.service import Service
from tests.devnet.oracle.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastapi import FastAPI

AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"


def seal(text: str) -> str:
    """What stands for a signature here: the curve costs more than all the rest, and has tests of its own."""
    return "0x" + hashlib.sha256(text.encode()).hexdigest() + "00" * 33


def check_seal(text: str, signature: str, wallet: str) -> None:
    """Takes the place of `check_signed`."""
    assert signature == seal(text)
    assert wallet == AGENT


@contextmanager
def sealed() -> Iterator[None]:
    """The Oracle looks for seals where signatures stand."""
    with pytest.MonkeyPatch.context() as patch:
        for form in (metrics_v1, report_v1):
            patch.setattr(form, "check_signed", check_seal)
        yield


class SealingSigner:
    """A wallet that seals.

    Attributes:
        signed: every text, in order.
    """

    def __init__(self) -> None:
        self.signed: list[str] = []

    @property
    def address(self) -> str:
        return AGENT

    def sign_text(self, text: str) -> str:
        self.signed.append(text)
        return seal(text)


@functools.cache
def _application() -> tuple[FastAPI, Service]:
    """The application and its parts, which each life of an Oracle replaces: building it takes longer than a history."""
    service = Service(Store(None), ListedRegistry([AGENT]), Faults(), float)
    return build_app(service, frozenset(DIALECTS)), service


class _Connection:
    """One request and its reply, as the application sees the server between (ASGI)."""

    def __init__(self, body: bytes, reply: asyncio.Future[Reply]) -> None:
        self._body: bytes | None = body
        self._reply = reply
        self._aborted = asyncio.Event()
        self._status: int | None = None
        self._date: str | None = None
        self._sent = b""

    async def receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._aborted.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._date = dict(message["headers"]).get(b"date", b"").decode() or None
            return
        self._sent += message.get("body", b"")
        if not message.get("more_body", False):
            self._answer(self._sent)

    def abort(self) -> None:
        """The application resets the connection."""
        self._aborted.set()
        if self._status is not None:
            self._answer(None)
        elif not self._reply.done():
            self._reply.set_result(Silence("the connection was reset", sent=True, hung_up=True))

    def _answer(self, content: bytes | None) -> None:
        assert self._status is not None
        if not self._reply.done():
            self._reply.set_result(Answer(self._status, content, self._date))


class Oracle:
    """An Oracle that can be killed and started again; its database stays."""

    def __init__(self, database: Path, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._exchanges: dict[asyncio.Task[None], asyncio.Future[Reply]] = {}
        self.up = False
        self.store: Store
        self.faults: Faults
        self.start()

    def start(self) -> None:
        """Answer from here on."""
        self.store, self.faults = Store(self._database), Faults()
        self._app, service = _application()
        for name, part in (("store", self.store), ("faults", self.faults), ("clock", self._clock)):
            object.__setattr__(service, name, part)
        self.up = True

    def kill(self) -> None:
        """End; what was being handled goes no further, and its senders hear nothing."""
        self.up = False
        for task, reply in self._exchanges.items():
            task.cancel()
            if not reply.done():
                reply.set_result(Silence("the connection was reset", sent=True, hung_up=True))
        self._exchanges.clear()
        self.store.close()

    def deliver(self, method: str, target: str, body: bytes | None) -> asyncio.Future[Reply]:
        """Hand in one request, which is handled even if nobody waits for the reply."""
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self._exchange(method, target, body or b"", reply))
        self._exchanges[task] = reply
        task.add_done_callback(lambda _: self._exchanges.pop(task, None))
        return reply

    async def _exchange(self, method: str, target: str, body: bytes, reply: asyncio.Future[Reply]) -> None:
        path, _, query = target.partition("?")
        connection = _Connection(body, reply)
        await self._app(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": method,
                "scheme": "http",
                "path": path,
                "raw_path": path.encode(),
                "root_path": "",
                "query_string": query.encode(),
                "headers": [(b"content-type", b"application/json")] if method == "POST" else [],
                "client": ("127.0.0.1", 1),
                "server": ("oracle", 80),
                "extensions": {ABORT: connection.abort},
            },
            connection.receive,
            connection.send,
        )


class Wire(OracleClient):
    """The reporter's client, with the Oracle at its other end."""

    def __init__(self, oracle: Oracle, timeout_s: float) -> None:
        super().__init__("http://oracle", timeout_s=timeout_s)
        self._oracle = oracle

    async def _request(self, method: str, path: str, body: bytes | None, timeout_s: float | None) -> Reply:
        # Here as well the sender may be killed.
        await asyncio.to_thread(lambda: None)
        if not self._oracle.up:
            return Silence("connection refused", sent=False)
        reply = self._oracle.deliver(method, path, body)
        done, _ = await asyncio.wait({reply}, timeout=self.timeout_s if timeout_s is None else timeout_s)
        if not done:
            return Silence("no answer within the time allowed", sent=True)
        await asyncio.to_thread(lambda: None)
        return reply.result()
