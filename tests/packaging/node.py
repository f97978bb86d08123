"""A plumised node on a host, handled as its operator would."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.devnet import configuration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.devnet.configuration import Tables
    from tests.hosts.host import Host, Result
    from tests.packaging.devnet import HostsDevnet

MODEL = "/srv/model"
"""Where hosts have the checkpoint."""
BLOCKS = 4
"""Of the checkpoint."""
PREFIX = "packaged"
PORT = 31330
_PASSWORD = "correct horse battery staple"
_SERVING_TIMEOUT_S = 180.0


def settings(
    devnet: HostsDevnet,
    blocks: str = f"0:{BLOCKS}",
    extra: Mapping[str, Mapping[str, object]] | None = None,
    peers: Sequence[str] = (),
) -> Tables:
    """A configuration for a node that serves blocks of the checkpoint.

    Args:
        devnet: whose Oracle and chain it uses.
        blocks: that it serves.
        extra: tables that are merged over the rest.
        peers: of the swarm that it joins; without them it begins one.
    """
    programs = devnet.programs
    return host_settings(
        blocks, prefix=PREFIX, peers=peers, oracle_url=programs.oracle_url, rpc_url=programs.rpc_url, extra=extra
    )


def host_settings(
    blocks: str,
    *,
    prefix: str,
    peers: Sequence[str],
    oracle_url: str,
    rpc_url: str,
    extra: Mapping[str, Mapping[str, object]] | None = None,
) -> Tables:
    """The same for a node of any network and devnet."""
    tables = configuration.settings(
        MODEL,
        blocks,
        f"/ip4/0.0.0.0/tcp/{PORT}",
        prefix=prefix,
        peers=peers,
        oracle_url=oracle_url,
        rpc_url=rpc_url,
    )
    return configuration.merged(tables, {"engine": {"threads": 1}}, extra or {})


@dataclass(frozen=True)
class Node:
    """A node on a host.

    Attributes:
        host: that it is on.
        instance: after the @ of its unit; None for plumised.service.
    """

    host: Host
    instance: str | None = field(default=None)

    @property
    def unit(self) -> str:
        return "plumised.service" if self.instance is None else f"plumised@{self.instance}.service"

    @property
    def config_file(self) -> str:
        return f"/etc/plumise/{self.instance or 'node'}.toml"

    @property
    def state_dir(self) -> str:
        return "/var/lib/plumise" if self.instance is None else f"/var/lib/plumise-{self.instance}"

    def plumised(self, arguments: str, *, check: bool = True, timeout_s: float = 60.0) -> Result:
        """Run plumised's command line for this node; `arguments` are for the shell."""
        which = f" --instance {self.instance}" if self.instance is not None else ""
        return self.host.run(f"plumised {arguments}{which}", check=check, timeout_s=timeout_s)

    def configure(self, tables: Tables) -> None:
        """Write the configuration, with the owner and the mode that the file has."""
        self.host.write(self.config_file, configuration.toml(tables), mode="0640", owner="root:plumise")

    def make_wallet(self) -> str:
        """`plumised wallet create`, with the password from a file; returns the agent's address."""
        self.host.write("/root/password", _PASSWORD + "\n", mode="0600")
        return self.plumised("wallet create --password-file /root/password").stdout.split()[-1]

    def start(self) -> None:
        """`systemctl start`; what the journal says of a failure is in the error."""
        started = self.host.systemctl("start", self.unit, check=False)
        if started.status != 0:
            raise AssertionError(f"{self.unit} does not start: {started}\n" + self._last_words())

    def status(self) -> dict[str, Any]:
        """`plumised status --json`."""
        status: dict[str, Any] = json.loads(self.plumised("status --json").stdout)
        return status

    def wait_serving(self) -> None:
        """Wait until the daemon is up and serves; what its journal says is in the error."""
        state = {"ActiveState": "active"}
        self.host.wait_for(
            f"{self.unit} is up", lambda host: host.show(self.unit, "ActiveState") == state, _SERVING_TIMEOUT_S
        )
        waited = self.plumised(
            f"wait --for serving --timeout {_SERVING_TIMEOUT_S:g}", check=False, timeout_s=_SERVING_TIMEOUT_S + 30
        )
        if waited.status != 0:
            raise AssertionError(f"{self.unit} does not serve: {waited}\n" + self._last_words())

    def engine(self) -> dict[str, Any]:
        """What the status says of the engine."""
        engine: dict[str, Any] = self.status()["engine"]
        return engine

    def problems(self) -> set[str]:
        """Codes of what is wrong."""
        return {problem["code"] for problem in self.status()["problems"]}

    def peers(self) -> list[str]:
        """Where other hosts reach its engine."""
        return [address for address in self.engine()["addresses"] if "/127.0.0.1/" not in address]

    def tokens(self) -> int:
        """Tokens that the ledger counts."""
        tokens: int = self.status()["usage"]["total"]["tokens"]
        return tokens

    def serving(self, tables: Tables) -> str:
        """All that an operator does, until the node serves; returns the agent's address."""
        self.configure(tables)
        address = self.make_wallet()
        self.start()
        self.wait_serving()
        return address

    def status_text(self) -> str:
        """The status line, as systemd has it."""
        return self.host.show(self.unit, "StatusText")["StatusText"]

    def _last_words(self) -> str:
        return "\n".join(self.messages()[-40:])

    def messages(self, *, after: str | None = None) -> list[str]:
        """What the unit's journal says, oldest first."""
        return [record.message for record in self.host.journal(self.unit, after=after)]
