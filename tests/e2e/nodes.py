"""A node of the cluster: the installed package on a host that booted systemd, handled as an operator would."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict

from plumised.observe.status import EngineState  # noqa: TC001 - pydantic reads the annotation
from tests.devnet.node import PASSWORD, key
from tests.hosts.waiting import wait_until
from tests.packaging.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.devnet.configuration import Tables
    from tests.hosts.host import Host

SERVING_WITHIN_S: Final = 180.0
NOTICED_WITHIN_S: Final = 60.0
STATUS_PAUSE_S: Final = 0.5
"""Between two statuses; each is a Python process on the node."""
ENGINE: Final = "plumise-engine"
HANDLER: Final = "plumise-hdl-0"
P2PD: Final = "p2pd"


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ProblemView(_View):
    """One problem."""

    code: str
    severity: str
    message: str
    remedy: str


class WorkView(_View):
    """Work of one kind, or of all."""

    requests: int
    steps: int
    tokens: int
    service_us: int


class UsageView(_View):
    """The ledger's totals."""

    inference: WorkView
    total: WorkView


class EngineView(_View):
    """The engine."""

    state: EngineState
    pid: int | None
    peer_id: str | None
    span_start: int | None
    span_end: int | None
    total_blocks: int | None
    incarnation: str | None
    restarts: int
    addresses: tuple[str, ...]


class OracleView(_View):
    """Reports to the Oracle."""

    dialect: str | None
    reports_accepted: int
    tokens_reported: int
    requests_reported: int
    proofs_waiting: int


class ChainView(_View):
    """The agent on chain."""

    chain_id: int
    registered: bool | None
    balance_wei: int | None
    heartbeats: int
    last_heartbeat_tx: str | None


class StatusView(_View):
    """What `plumised status --json` says, as far as these tests ask."""

    serving: bool
    problems: tuple[ProblemView, ...]
    engine: EngineView
    usage: UsageView
    oracle: OracleView
    chain: ChainView

    @property
    def codes(self) -> frozenset[str]:
        """The codes of the problems."""
        return frozenset(problem.code for problem in self.problems)

    @property
    def well(self) -> bool:
        """Whether the node serves and has nothing to complain of."""
        return self.serving and not self.problems


@dataclass(frozen=True)
class ClusterNode:
    """A node.

    Attributes:
        node: the package's side of it.
        agent: address of its wallet.
    """

    node: Node
    agent: str

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def host(self) -> Host:
        return self.node.host

    @classmethod
    def prepared(cls, host: Host, byte: int, tables: Tables) -> ClusterNode:
        """Configure a node on a host with both packages and import a test key; it is not started."""
        node = Node(host)
        node.configure(tables)
        host.write("/root/password", PASSWORD + "\n", mode="0600")
        host.write("/root/key", key(byte) + "\n", mode="0600")
        imported = node.plumised("wallet import --key-file /root/key --password-file /root/password")
        host.run("rm /root/key /root/password")
        return cls(node, imported.stdout.split()[-1])

    def start(self) -> None:
        """`systemctl start plumised`."""
        self.node.start()

    def stop(self) -> float:
        """`systemctl stop plumised`; returns how many seconds it took."""
        started = time.monotonic()
        self.host.systemctl("stop", self.node.unit)
        return time.monotonic() - started

    def status(self) -> StatusView:
        """`plumised status --json`."""
        return StatusView.model_validate_json(self.node.plumised("status --json").stdout)

    def status_if_any(self) -> StatusView | None:
        """The same; None while no daemon answers."""
        asked = self.node.plumised("status --json", check=False)
        return StatusView.model_validate_json(asked.stdout) if asked.status == 0 else None

    def serving(self) -> bool:
        """Whether it says that it serves."""
        status = self.status_if_any()
        return status is not None and status.serving

    def wait(self, what: str, fits: Callable[[StatusView], bool], timeout_s: float = NOTICED_WITHIN_S) -> StatusView:
        """The first status that fits.

        Raises:
            AssertionError: none came in time; with the last status and the end of the journal.
        """
        last: list[StatusView | None] = [None]

        def fitting() -> StatusView | None:
            last[0] = self.status_if_any()
            return last[0] if last[0] is not None and fits(last[0]) else None

        try:
            status = wait_until(f"{self.name}: {what}", fitting, timeout_s, STATUS_PAUSE_S)
        except TimeoutError:
            seen = "no status" if last[0] is None else last[0].model_dump_json(indent=1)
            journal = "\n".join(self.node.messages()[-60:])
            raise AssertionError(f"{self.name}, not in {timeout_s:g} s: {what}\n{seen}\n{journal}") from None
        assert status is not None
        return status

    def wait_serving(self, timeout_s: float = SERVING_WITHIN_S) -> StatusView:
        """Wait until it serves.

        Raises:
            AssertionError: it does not.
        """
        return self.wait("it serves", lambda status: status.serving, timeout_s)

    def wait_counted(self, tokens: int) -> StatusView:
        """Wait until it has served exactly so many tokens.

        Raises:
            AssertionError: it is another number.
        """
        return self.wait(f"it served {tokens} tokens", lambda status: status.usage.total.tokens == tokens)

    def processes(self) -> dict[str, int]:
        """The pids of the unit's processes, by their names."""
        listed = self.host.run("ps -eo pid=,comm=,cgroup=").stdout.splitlines()
        words = (line.split() for line in listed if line.rstrip().endswith(self.node.unit))
        return {name: int(pid) for pid, name, *_ in words}

    def pid(self, name: str) -> int:
        """The pid of a process of the unit, by its name.

        Raises:
            TimeoutError: there is none.
        """
        return wait_until(f"there is a {name} on {self.name}", lambda: self.processes().get(name, 0), NOTICED_WITHIN_S)

    def signal(self, name: str, how: str) -> None:
        """Send a signal to a process of the unit; `plumised` names the daemon."""
        pid = self.host.main_pid(self.node.unit) if name == "plumised" else self.pid(name)
        self.host.run(f"kill -{how} {pid}")

    def cut_off_from(self, other: Host) -> None:
        """Send no packet to another host any more."""
        self.host.run(shlex.join(["ip", "route", "add", "blackhole", other.address]))

    def heal(self, other: Host) -> None:
        """Undo `cut_off_from`."""
        self.host.run(shlex.join(["ip", "route", "del", "blackhole", other.address]))
