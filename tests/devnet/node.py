"""One plumised node of the devnet: its files, its daemon process, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from plumised.chain.password import Password
from plumised.chain.wallet import import_key
from plumised.observe.control_client import ControlClient, NoDaemonError
from tests.devnet.client.process import ENGINE_PYTHON, ROOT
from tests.devnet.configuration import merged, settings, toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.devnet.configuration import Tables

PASSWORD = "correct horse battery staple"
QUICK_SCRYPT_N = 2
"""Cost of the keystores here. The product's own is higher; a test of the wallet uses that one."""


def key(byte: int) -> str:
    """The well-known test key that repeats one byte."""
    return "0x" + f"{byte:02x}" * 32


def free_port() -> int:
    """A TCP port that was free a moment ago: a node keeps its port over restarts, or nobody would find it again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class DevNode:
    """A node below `directory`, whose path must be short enough for unix sockets.

    Attributes:
        directory: where all of its files are.
        model: directory of the checkpoint.
        blocks: span, as node.toml has it.
        private_key: of its wallet.
        initial_peers: none starts a swarm.
        oracle_url, rpc_url: of the devnet.
        extra: tables of node.toml that are merged over the rest.
        port: that the engine listens on.
        group: that the daemon runs in; None for the caller's. Only root may choose.
    """

    directory: Path
    model: Path
    blocks: str
    private_key: str
    oracle_url: str
    rpc_url: str
    prefix: str = "devnet"
    initial_peers: Sequence[str] = ()
    extra: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    python: Path = ENGINE_PYTHON
    port: int = field(default_factory=free_port)
    group: int | None = None
    _process: asyncio.subprocess.Process | None = None

    @property
    def config_file(self) -> Path:
        return self.directory / "node.toml"

    @property
    def log_file(self) -> Path:
        return self.directory / "plumised.log"

    @property
    def control(self) -> ControlClient:
        return ControlClient(self.directory / "run" / "control.sock")

    def tables(self) -> Tables:
        """What node.toml says."""
        tables = settings(
            str(self.model),
            self.blocks,
            f"/ip4/127.0.0.1/tcp/{self.port}",
            prefix=self.prefix,
            peers=self.initial_peers,
            oracle_url=self.oracle_url,
            rpc_url=self.rpc_url,
            handlers=2,
        )
        own: Tables = {
            "node": {
                "name": self.directory.name,
                "state_dir": str(self.directory / "state"),
                "runtime_dir": str(self.directory / "run"),
                "cache_dir": str(self.directory / "cache"),
            },
            "engine": {"python": str(self.python)},
            "wallet": {"password_file": str(self.directory / "password")},
            "metrics": {"listen": "off"},
        }
        return merged(tables, own, self.extra)

    def prepare(self) -> str:
        """Write the configuration, the password and the keystore; returns the agent's address."""
        for name in ("state", "run", "cache"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(toml(self.tables()))
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(PASSWORD + "\n")
        wallet = self.directory / "state" / "wallet"
        wallet.mkdir(mode=0o700, exist_ok=True)
        return import_key(wallet / "keystore.json", self.private_key, Password(PASSWORD), scrypt_n=QUICK_SCRYPT_N)

    async def start(self) -> None:
        """Start the daemon; it is not waited for."""
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "plumised",
                "run",
                "--config",
                str(self.config_file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory)},
                start_new_session=True,
                group=self.group,
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The daemon's process, running or ended."""
        assert self._process is not None, "the node has not been started"
        return self._process

    async def status(self) -> dict[str, Any]:
        """The status as the control socket gives it."""
        status: dict[str, Any] = json.loads(await asyncio.to_thread(self.control.status))
        return status

    async def wait_for(self, condition: str, timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait for `serving` or `registered`; the log's end is in the error if that does not come."""
        await self.wait_for_control(timeout_s)
        try:
            status: dict[str, Any] = json.loads(await asyncio.to_thread(self.control.wait, condition, timeout_s))
        except Exception as error:
            raise AssertionError(f"{self.directory.name} is not {condition}: {error}\n{self.log_tail()}") from error
        return status

    async def wait_for_control(self, timeout_s: float = 30.0) -> None:
        """Wait until the daemon answers at its control socket."""
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    await self.status()
                except NoDaemonError:
                    if self.process.returncode is not None:
                        raise AssertionError(
                            f"the daemon ended with {self.process.returncode}\n{self.log_tail()}"
                        ) from None
                    await asyncio.sleep(0.05)
                else:
                    return

    async def ended(self, timeout_s: float) -> int:
        """Wait until the daemon has ended by itself; returns the exit status."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"the daemon did not end in {timeout_s} s\n{self.log_tail()}") from None

    async def stop(self, timeout_s: float = 60.0) -> int:
        """Stop in order, as systemd does; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"the daemon did not stop in {timeout_s} s\n{self.log_tail()}") from None

    async def kill(self) -> None:
        """End the daemon with SIGKILL."""
        self.process.kill()
        await self.process.wait()

    def log_tail(self, characters: int = 4000) -> str:
        """The end of the daemon's log."""
        return self.log_file.read_text(errors="replace")[-characters:] if self.log_file.exists() else ""
