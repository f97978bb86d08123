"""The devnet's programs on hosts of their own: chain, Oracle, and the peer that nodes and clients meet through."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import aiohttp

from tests.devnet.chain import Admin
from tests.devnet.client.process import ENGINE_PYTHON, ROOT
from tests.devnet.model.cache import cache_root
from tests.devnet.oracle import OracleControl
from tests.hosts.host import Hardware
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.devnet.oracle import AgentView
    from tests.hosts.host import Host

T = TypeVar("T")

DEV_PYTHON: Final = ROOT / "build" / "env" / "dev" / "bin" / "python"
MODEL_PLACE: Final = "/srv/model"
"""Where every host has the checkpoint."""
RPC_PORT: Final = 8545
ADMIN_PORT: Final = 8546
ORACLE_PORT: Final = 3100
BOOTSTRAP_PORT: Final = 31337
BOOKED_WITHIN_S: Final = 90.0

_DATABASE: Final = "/var/lib/oracle.sqlite"
_OLD_DATABASE: Final = "/var/lib/oracle.old"
_ADDRESSES: Final = "/run/bootstrap.addresses"
_UP_WITHIN_S: Final = 60.0


def services_hardware(model: Path) -> Hardware:
    """A host on which the programs of this checkout run: it sees the source, the environments and the checkpoint."""
    source, environments = str(ROOT), cache_root(os.environ) / "env"
    return Hardware(mounts={source: ROOT, str(environments): environments, MODEL_PLACE: model})


@dataclass(frozen=True)
class Program:
    """A program of the devnet, as a unit of its host's systemd.

    Attributes:
        command: words of the command line.
    """

    host: Host
    unit: str
    command: tuple[str, ...]

    def start(self) -> None:
        """Start it; it is not waited for."""
        self.host.run(
            f"systemctl reset-failed {self.unit} 2>/dev/null; "
            + shlex.join(
                ["systemd-run", "--quiet", f"--unit={self.unit}", f"--working-directory={ROOT}", *self.command]
            )
        )

    def stop(self, how: str = "TERM") -> None:
        """End it by a signal, and wait until it has ended."""
        self.host.run(f"systemctl kill --signal={how} {self.unit}")
        self.host.wait_for(f"{self.unit} has ended", lambda host: host.main_pid(self.unit) == 0)

    def log(self) -> str:
        """What it said."""
        return "\n".join(record.message for record in self.host.journal(self.unit))


@dataclass(frozen=True)
class Chain:
    """The chain, and whoever has a hand in it."""

    program: Program
    _portal: BlockingPortal
    _admin: Admin

    @classmethod
    def started(cls, host: Host, portal: BlockingPortal, agents: tuple[str, ...], wei: int) -> Chain:
        """A chain on a host, with a block each second, on which each agent has a balance."""
        funds = [word for agent in agents for word in ("--fund", f"{agent}={wei}")]
        listen = ["--listen", f"0.0.0.0:{RPC_PORT}", "--admin-port", str(ADMIN_PORT), "--block-time", "1"]
        program = Program(host, "chain", (str(DEV_PYTHON), "-m", "tests.devnet.chain", *listen, *funds))
        program.start()
        return cls(program, portal, Admin(f"http://{host.address}:{ADMIN_PORT}"))

    @property
    def url(self) -> str:
        """Where the other hosts find it."""
        return f"http://{self.program.host.name}:{RPC_PORT}"

    def ask(self, question: Callable[[Admin], Awaitable[T]]) -> T:
        """What its admin port answers."""

        async def asked() -> T:
            async with self._admin as admin:
                return await question(admin)

        return self._portal.call(asked)

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        wait_until("the chain answers", lambda: _answered(lambda: self.ask(lambda admin: admin.status())), _UP_WITHIN_S)


@dataclass(frozen=True)
class Oracle:
    """The Oracle, and whoever looks into its books."""

    program: Program
    _portal: BlockingPortal

    @classmethod
    def started(cls, host: Host, portal: BlockingPortal, chain: Chain) -> Oracle:
        """An Oracle on a host, with an empty database."""
        listen = ["--listen", f"0.0.0.0:{ORACLE_PORT}", "--database", _DATABASE]
        knows = ["--rpc-url", chain.url, "--sponsor-url", f"http://{chain.program.host.name}:{ADMIN_PORT}"]
        program = Program(host, "oracle", (str(DEV_PYTHON), "-m", "tests.devnet.oracle", *listen, *knows))
        program.start()
        return cls(program, portal)

    @property
    def url(self) -> str:
        """Where the other hosts find it."""
        return f"http://{self.program.host.name}:{ORACLE_PORT}"

    @property
    def url_here(self) -> str:
        """Where this machine finds it."""
        return f"http://{self.program.host.address}:{ORACLE_PORT}"

    def ask(self, question: Callable[[OracleControl], Awaitable[T]]) -> T:
        """What its control paths answer."""
        return self._portal.call(question, OracleControl(self.url_here))

    def agent(self, address: str) -> AgentView:
        """What it holds of an agent."""
        return self.ask(lambda oracle: oracle.agent(address))

    def booked(self, address: str) -> int:
        """Tokens that it booked for an agent."""
        return self.agent(address).booked_tokens

    def wait_booked(self, address: str, tokens: int, timeout_s: float = BOOKED_WITHIN_S) -> None:
        """Wait until exactly so many tokens are booked.

        Raises:
            TimeoutError: it is another number.
        """
        wait_until(
            f"{tokens} tokens of {address} are booked",
            lambda: (self.booked(address) == tokens, self.booked(address))[0],
            timeout_s,
        )

    def wait_until_up(self) -> None:
        """Wait until it answers."""
        self.ask(lambda oracle: oracle.wait_until_healthy(_UP_WITHIN_S))

    def keep_database(self) -> None:
        """Keep a copy of the database as it is."""
        self.program.host.run(f"cp {_DATABASE} {_OLD_DATABASE}")

    def restart_with_kept_database(self) -> None:
        """Kill it, and start it with the copy, as after a restored backup."""
        self.program.stop("KILL")
        self.program.host.run(f"cp {_OLD_DATABASE} {_DATABASE}")
        self.program.start()
        self.wait_until_up()


@dataclass(frozen=True)
class Bootstrap:
    """The peer of the swarm that serves nothing."""

    program: Program

    @classmethod
    def started(cls, host: Host) -> Bootstrap:
        """A peer on a host."""
        listen = f"/ip4/0.0.0.0/tcp/{BOOTSTRAP_PORT}"
        program = Program(host, "bootstrap", (str(ENGINE_PYTHON), "-m", "tests.devnet.bootstrap", _ADDRESSES, listen))
        program.start()
        return cls(program)

    def addresses(self) -> tuple[str, ...]:
        """Where the other hosts find it, once it is up."""
        host = self.program.host
        text = host.wait_for(
            "the bootstrap peer is up", lambda host: host.run(f"cat {_ADDRESSES}", check=False).stdout, _UP_WITHIN_S
        )
        return tuple(address for address in text.split() if f"/ip4/{host.address}/" in address)


def _answered(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except (aiohttp.ClientError, OSError):
        return False
    return True
