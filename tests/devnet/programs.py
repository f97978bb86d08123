"""The devnet's chain and Oracle as programs of their own, started and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.devnet.client.process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Devnet:
    """Where the running programs answer."""

    rpc_url: str
    chain_admin_url: str
    oracle_url: str


@contextlib.asynccontextmanager
async def running_devnet(
    directory: Path, *, block_time_s: float, funds: Sequence[str], host: str = "127.0.0.1"
) -> AsyncIterator[Devnet]:
    """Start chain and Oracle with their files below `directory`.

    Args:
        directory: for port files, logs and the Oracle's database.
        block_time_s: seconds between blocks.
        funds: addresses that have a balance of one coin in the first block.
        host: address of this machine that they listen on.
    """
    async with contextlib.AsyncExitStack() as stack:
        chain_ports = await stack.enter_async_context(
            _program(
                directory,
                host,
                "chain",
                "--block-time",
                str(block_time_s),
                *(argument for address in funds for argument in ("--fund", f"{address}={10**18}")),
            )
        )
        rpc_port, admin_port = chain_ports
        rpc_url, admin_url = (f"http://{host}:{port}" for port in (rpc_port, admin_port))
        (oracle_port,) = await stack.enter_async_context(
            _program(
                directory,
                host,
                "oracle",
                "--rpc-url",
                rpc_url,
                "--sponsor-url",
                admin_url,
                "--database",
                str(directory / "oracle.sqlite"),
            )
        )
        yield Devnet(rpc_url, admin_url, f"http://{host}:{oracle_port}")


@contextlib.asynccontextmanager
async def _program(directory: Path, host: str, name: str, *arguments: str) -> AsyncIterator[list[int]]:
    port_file = directory / f"{name}.port"
    port_file.unlink(missing_ok=True)
    log_file = directory / f"{name}.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"tests.devnet.{name}",
            "--listen",
            f"{host}:0",
            "--port-file",
            str(port_file),
            *arguments,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not port_file.exists():
                if process.returncode is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{log_file.read_text()[-2000:]}")
                await asyncio.sleep(0.05)
        yield [int(line) for line in port_file.read_text().split()]
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
