"""Starts and ends the bootstrap peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from tests.devnet.client.process import ENGINE_PYTHON, ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_START_TIMEOUT_S = 60.0


@contextlib.asynccontextmanager
async def running_bootstrap(directory: Path) -> AsyncIterator[list[str]]:
    """A bootstrap peer with its files in `directory`; gives its multiaddresses."""
    address_file, log_file = directory / "bootstrap.addresses", directory / "bootstrap.log"
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(ENGINE_PYTHON),
            "-m",
            "tests.devnet.bootstrap",
            str(address_file),
            stdout=log,
            stderr=log,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not address_file.exists():
                if process.returncode is not None:
                    raise RuntimeError(f"the bootstrap peer ended:\n{log_file.read_text()[-2000:]}")
                await asyncio.sleep(0.05)
        yield address_file.read_text().split()
    finally:
        # Its p2pd shares its session, and shall not outlive it.
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
