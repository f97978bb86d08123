"""The Oracle's program as a child process, for tests that kill it."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.devnet.oracle.client import OracleControl
from tests.devnet.oracle.report import DIALECTS, Dialect

if TYPE_CHECKING:
    from types import TracebackType

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.02

_ROOT = Path(__file__).parents[3]


class OracleProcess:
    """`python -m tests.devnet.oracle`, started, killed and started again on one port.

        async with OracleProcess(rpc_url=chain.url, database=tmp_path / "oracle.sqlite") as oracle:
            await oracle.kill()
            await oracle.start()

    Attributes:
        control: asks and commands it.
    """

    control: OracleControl

    def __init__(
        self,
        *,
        rpc_url: str | None = None,
        sponsor_url: str | None = None,
        database: Path | None = None,
        dialects: frozenset[Dialect] = frozenset(DIALECTS),
        port: int = 0,
    ) -> None:
        options = {"--rpc-url": rpc_url, "--sponsor-url": sponsor_url, "--database": database}
        self._arguments = [text for name, value in options.items() if value is not None for text in (name, str(value))]
        self._arguments += ["--dialects", ",".join(sorted(dialects))]
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it answers; known once it was started, and the same after that."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it ended instead.
            TimeoutError: it does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="oracle-") as folder:
            port_file = Path(folder, "port")
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.devnet.oracle", "--listen", f"127.0.0.1:{self._port}"),
                *("--port-file", str(port_file), *self._arguments),
                cwd=_ROOT,
            )
            self._process = process
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await asyncio.to_thread(port_file.exists):
                    if process.returncode is not None:
                        raise RuntimeError(f"the devnet Oracle ended with status {process.returncode}")
                    await asyncio.sleep(POLL_S)
            self._port = int(await asyncio.to_thread(port_file.read_text, "ascii"))
        self.control = OracleControl(self.url)
        await self.control.wait_until_healthy(START_TIMEOUT_S)

    async def stop(self) -> int:
        """End it in order and return its exit status. Raises TimeoutError."""
        if self._process is None:
            raise RuntimeError("the devnet Oracle is not running")
        process, self._process = self._process, None
        process.terminate()
        return await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)

    async def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
