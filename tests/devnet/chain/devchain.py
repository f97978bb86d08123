"""A devnet chain inside of a test: a node in a thread of its own, so that the test's event loop stays free."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, Self

from tests.devnet.chain.admin import Admin
from tests.devnet.chain.model import Mining, MiningMode
from tests.devnet.chain.server import Options, Ports, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

START_PATIENCE_S: Final = 30.0
STOP_PATIENCE_S: Final = 10.0


class DevChain:
    """A chain of its own for a test, from `async with` to its end.

    Attributes:
        url: of the JSON-RPC port.
        admin: changes the chain, switches faults on, answers questions.
    """

    def __init__(
        self,
        *,
        funds: Mapping[str, int] | None = None,
        mining: MiningMode = MiningMode.INSTANT,
        interval_s: float = 0.2,
        base_fee: int = 0,
        min_tip: int = 0,
        epoch_blocks: int = 1200,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = Options(
            funds={bytes.fromhex(address.removeprefix("0x")): wei for address, wei in (funds or {}).items()},
            mining=Mining(mode=mining, interval_s=interval_s),
            base_fee=base_fee,
            min_tip=min_tip,
            epoch_blocks=epoch_blocks,
            port=port,
            clock=clock,
        )
        self._ports: Future[tuple[Ports, Callable[[], None]]] = Future()
        self._thread = threading.Thread(target=self._run, name="devnet-chain", daemon=True)
        self._stop = _nothing
        self.url = ""
        self.admin_url = ""
        self.admin = Admin("")

    async def __aenter__(self) -> Self:
        self._thread.start()
        async with asyncio.timeout(START_PATIENCE_S):
            ports, self._stop = await asyncio.wrap_future(self._ports)
        self.url, self.admin_url = ports.url, ports.admin_url
        self.admin = await Admin(self.admin_url).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.admin.__aexit__(kind, error, trace)
        self._stop()
        await asyncio.to_thread(self._thread.join, STOP_PATIENCE_S)
        if self._thread.is_alive():
            raise RuntimeError("the chain's thread did not end")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ports.done():
                raise
            self._ports.set_exception(error)

    async def _serve(self) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def ask_to_stop() -> None:
            loop.call_soon_threadsafe(stop.set)

        await serve(self._options, lambda ports: self._ports.set_result((ports, ask_to_stop)), stop)


def _nothing() -> None:
    """Stop what has not started."""
