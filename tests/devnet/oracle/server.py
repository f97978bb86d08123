"""The Oracle as a running server: in a thread of its own for tests, or as the program."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp
import uvicorn

from tests.devnet.oracle.answers import AbortableProtocol
from tests.devnet.oracle.app import build_app
from tests.devnet.oracle.client import OracleControl
from tests.devnet.oracle.faults import Faults
from tests.devnet.oracle.registry import ChainRegistry, ListedRegistry
from tests.devnet.oracle.report import DIALECTS, Dialect
from tests.devnet.oracle.service import Service
from tests.devnet.oracle.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class OracleConfig:
    """What an Oracle is told.

    Attributes:
        rpc_url: the chain; None for a list of agents instead, at first `listed`.
        sponsor_url: the devnet chain's admin port, through which unregistered wallets are registered.
        database: an SQLite file that survives the process; None for memory.
        clock: Unix time in seconds.
        keep_alive_s: after how many idle seconds a connection is closed.
    """

    rpc_url: str | None = None
    sponsor_url: str | None = None
    database: Path | None = None
    dialects: frozenset[Dialect] = frozenset(DIALECTS)
    listed: frozenset[str] = frozenset()
    clock: Callable[[], float] = time.time
    keep_alive_s: int = 5


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a client may connect from here on; port 0 for any."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128)


class _Server(uvicorn.Server):
    """uvicorn, but a message that is held by a fault does not hold up the end."""

    def __init__(self, config: uvicorn.Config, faults: Faults) -> None:
        super().__init__(config)
        self._faults = faults

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program: uvicorn would end it by the signal, after an orderly end."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the faults, then as usual."""
        self._faults.end()
        await super().shutdown(sockets)


async def serve(config: OracleConfig, listener: socket.socket, use: Callable[[uvicorn.Server], None]) -> None:
    """Answer on a listening socket until the server that is given to `use` is told to exit."""
    async with aiohttp.ClientSession() as session:
        with closing(Store(config.database)) as store:
            registry = (
                ListedRegistry(config.listed)
                if config.rpc_url is None
                else ChainRegistry(session, config.rpc_url, config.sponsor_url)
            )
            faults = Faults()
            app = build_app(Service(store, registry, faults, config.clock), config.dialects)
            server = _Server(
                uvicorn.Config(
                    app,
                    http=AbortableProtocol,
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    date_header=False,
                    server_header=False,
                    timeout_keep_alive=config.keep_alive_s,
                    timeout_graceful_shutdown=1,
                ),
                faults,
            )
            use(server)
            await server.serve(sockets=[listener])


class DevOracle:
    """An Oracle in a thread of this process, with an event loop of its own.

        async with DevOracle(OracleConfig(rpc_url=chain.url)) as oracle:
            await oracle.control.switch_on(Fault(kind="drop", when="after", count=1))

    It may be stopped and started again: the port stays, and with a database what it holds.

    Attributes:
        control: asks and commands it.
    """

    control: OracleControl

    def __init__(self, config: OracleConfig | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._config = config or OracleConfig()
        self._host = host
        self._port = port
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Where it answers; known once it was started."""
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start answering.

        Raises:
            OSError: the port is taken.
            RuntimeError: it did not come up.
        """
        listener = listening(self._host, self._port)
        self._port = int(listener.getsockname()[1])
        self.control = OracleControl(self.url)
        self._thread = threading.Thread(target=self._run, args=(listener,), name="devnet-oracle")
        self._thread.start()
        try:
            await self.control.wait_until_healthy(START_TIMEOUT_S)
        except TimeoutError as error:
            await self.stop()
            raise RuntimeError("the devnet Oracle did not come up") from (self._failure or error)

    async def stop(self) -> None:
        """Stop answering; connections that are open are closed."""
        thread, server = self._thread, self._server
        if thread is None:
            return
        if server is not None:
            server.should_exit = True
        await asyncio.to_thread(thread.join, STOP_TIMEOUT_S)
        if thread.is_alive():
            raise RuntimeError("the devnet Oracle does not stop")
        self._thread = self._server = None

    def _run(self, listener: socket.socket) -> None:
        def use(server: uvicorn.Server) -> None:
            self._server = server

        with closing(listener):
            try:
                asyncio.run(serve(self._config, listener, use))
            except BaseException as error:
                self._failure = error
                logging.getLogger(__name__).exception("the devnet Oracle ended")
                raise


def run_program(config: OracleConfig, listener: socket.socket, port_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; the port is written to `port_file` as soon as one may connect."""
    if port_file is not None:
        unfinished = port_file.with_name(f".{port_file.name}.{os.getpid()}")
        unfinished.write_text(f"{listener.getsockname()[1]}\n", encoding="ascii")
        unfinished.replace(port_file)

    def end_on_signal(server: uvicorn.Server) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)

    with closing(listener):
        asyncio.run(serve(config, listener, end_on_signal))
