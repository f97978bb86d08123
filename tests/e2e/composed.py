"""The nodes of docker-compose.test.yml, set up and verified from outside."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.devnet.client import LanguageModelClient, Request
from tests.devnet.client.process import ENGINE_PYTHON, ROOT
from tests.devnet.configuration import toml
from tests.devnet.node import PASSWORD, key
from tests.devnet.oracle import OracleControl
from tests.e2e.cluster import KEYS, PREFIX
from tests.e2e.nodes import StatusView
from tests.e2e.services import MODEL_PLACE
from tests.hosts.waiting import wait_until
from tests.packaging.node import host_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COMPOSE_FILE: Final = ROOT / "tests" / "e2e" / "docker-compose.test.yml"
ORACLE_HERE: Final = "http://127.0.0.1:3100"
_SPANS: Final = {"node-a": "0:12", "node-b": "12:24"}
_AGENT_KEYS: Final = {"node-a": KEYS["a"], "node-b": KEYS["b"]}
_PROMPT: Final = tuple(range(5, 25))
_NEW_TOKENS: Final = 16
_COMMAND_TIMEOUT_S: Final = 120.0
_SERVING_WITHIN_S: Final = 180.0
_SETTLED_WITHIN_S: Final = 90.0


class ComposeError(Exception):
    """A command in a service failed; the message is what it said."""


@dataclass(frozen=True)
class Service:
    """One service of the composition."""

    name: str

    def argv(self, *command: str) -> list[str]:
        """The command line that runs a command in it, with this process's standard streams."""
        return ["docker-compose", "--file", str(COMPOSE_FILE), "exec", "-T", self.name, *command]

    def run(self, command: str, stdin: str = "") -> str:
        """Run a line of shell; returns what it prints.

        Raises:
            ComposeError: it failed.
        """
        done = subprocess.run(
            self.argv("sh", "-ec", command),
            check=False,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=_COMMAND_TIMEOUT_S,
        )
        if done.returncode != 0:
            raise ComposeError(f"{self.name}: {command}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self) -> StatusView:
        """What the node says of itself."""
        return StatusView.model_validate_json(self.run("plumised status --json"))


NODES: Final = tuple(Service(name) for name in _SPANS)


def set_up() -> None:
    """Configure and start both nodes as an operator would; the second joins the swarm of the first.

    Raises:
        ComposeError: a command failed.
        TimeoutError: a node does not serve.
    """
    peers: tuple[str, ...] = ()
    for node in NODES:
        wait_until(f"{node.name} is up", lambda node=node: _booted(node), _COMMAND_TIMEOUT_S)  # type: ignore[misc]
        tables = host_settings(
            _SPANS[node.name],
            peers=peers,
            prefix=PREFIX,
            oracle_url="http://oracle:3100",
            rpc_url="http://chain:8545",
        )
        node.run("umask 027; cat > /etc/plumise/node.toml; chown root:plumise /etc/plumise/node.toml", toml(tables))
        node.run("umask 077; cat > /root/key", key(_AGENT_KEYS[node.name]) + "\n")
        node.run("umask 077; cat > /root/password", PASSWORD + "\n")
        node.run(
            "plumised wallet import --key-file /root/key --password-file /root/password; rm /root/key /root/password"
        )
        node.run("systemctl start plumised")
        node.run(f"plumised wait --for serving --timeout {_SERVING_WITHIN_S:g}")
        peers = tuple(address for address in node.status().engine.addresses if "/ip4/127." not in address)


def _booted(node: Service) -> bool:
    try:
        return node.run("systemctl is-system-running || true").strip() in ("running", "degraded")
    except ComposeError:
        return False


def verify() -> dict[str, object]:
    """Generate through both nodes, and compare with one process and with the Oracle's books.

    Raises:
        AssertionError: something differs.
        TimeoutError: the Oracle has not booked what was served.
    """
    peers = [address for address in NODES[0].status().engine.addresses if "/ip4/127." not in address]
    logs = ROOT / "build" / "e2e"
    python = Service("client").argv(str(ENGINE_PYTHON))
    through = asyncio.run(_generated(["swarm", MODEL_PLACE, PREFIX, *peers], logs / "compose-client.log", python))
    alone = asyncio.run(_generated(["local", MODEL_PLACE], logs / "compose-single.log", python))
    assert through == alone, f"the swarm gave {through}, one process {alone}"
    served = {node.name: _settled(node) for node in NODES}
    assert set(served.values()) == {len(_PROMPT) + len(alone) - 1}, f"other work was counted than was done: {served}"
    return {"tokens": list(through), "served_and_booked": served}


async def _generated(arguments: Sequence[str], log: Path, python: Sequence[str]) -> tuple[int, ...]:
    async with LanguageModelClient(arguments, log=log, python=python) as client:
        return (await client.generate(Request(_NEW_TOKENS, ids=_PROMPT))).ids


def _settled(node: Service) -> int:
    agent = node.run("plumised wallet address").strip()

    def agreed() -> int:
        served = node.status().usage.total.tokens
        return served if served == asyncio.run(OracleControl(ORACLE_HERE).agent(agent)).booked_tokens else 0

    return wait_until(f"what {node.name} served is booked", agreed, _SETTLED_WITHIN_S)


def render(found: dict[str, object]) -> str:
    """The outcome for a terminal."""
    return json.dumps(found)
