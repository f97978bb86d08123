"""After a full run with debug logging, neither the key nor the password is anywhere that others could look.

One node registers, announces itself, serves, reports, beats, loses its engine and stops. What its processes showed
while they ran and what they left behind is searched. Then it runs again with a spy in place of its engine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import stat
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio

from plumised.ipc.messages import LayerName
from tests.devnet.bootstrap import running_bootstrap
from tests.devnet.chain import DevChain
from tests.devnet.client import LanguageModelClient, Request
from tests.devnet.client.process import ENGINE_PYTHON
from tests.devnet.configuration import toml
from tests.devnet.model import make_bloom
from tests.devnet.node import PASSWORD, DevNode, key
from tests.devnet.oracle import DevOracle, OracleConfig
from tests.integration import secret_search
from tests.integration.conftest import short_directory
from tests.integration.secret_search import Found, Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from typing import Any

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.engine,
    pytest.mark.timeout(300),
]

KEY = bytes([0xAB]) * 32
BLOCKS = 2
REQUEST = Request(8, ids=tuple(range(5, 21)))
NOBODY = 65534
PASSED_WITHIN_S = 90.0
LARGEST_FILE = 64 << 20
OPEN_TO_MANY = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/etc", "/home", "/root", "/var/lib", "/var/cache")  # noqa: S108 - looked through, not written to


WRITTEN = (base64.b64encode(KEY).rstrip(b"="), str(int.from_bytes(KEY)).encode(), repr(KEY)[2:-1].encode())


def holds_the_key(content: bytes) -> bool:
    """Whether the key is in it: as it is, in hex of any case, in base64, as a number, or as Python prints bytes."""
    return KEY in content or KEY.hex().encode() in content.lower() or any(text in content for text in WRITTEN)


def holds_the_password(content: bytes) -> bool:
    return PASSWORD.encode() in content


@dataclass
class Evidence:
    """What was seen of one run, content by place.

    Attributes:
        shown: environments and command lines of the node's processes.
        opened: what the engine's processes had open, where it can be read.
        targets: what else they had open or mapped, by name.
        written: every file below the node's directory, as it was during the run and after it.
        core_limits: soft and hard, of every process of the node.
        confined, unconfined: what a spy in place of the engine has found, with the sandbox and without.
        owners: owner and group of the daemon's and the engine's main process, as the kernel shows them.
        identities: those that these processes have.
    """

    shown: dict[str, bytes] = field(default_factory=dict)
    opened: dict[str, bytes] = field(default_factory=dict)
    targets: set[str] = field(default_factory=set)
    written: dict[str, bytes] = field(default_factory=dict)
    core_limits: set[tuple[str, ...]] = field(default_factory=set)
    owners: dict[str, tuple[int, int]] = field(default_factory=dict)
    identities: dict[str, tuple[int, int]] = field(default_factory=dict)
    log: str = ""
    confined: Found = field(default_factory=Found)
    unconfined: Found = field(default_factory=Found)

    def look_at(self, node: DevNode, engine_pid: int) -> None:
        """Note what the running node shows."""
        daemon = psutil.Process(node.process.pid)
        engine = daemon.children(recursive=True)
        for process in (daemon, *engine):
            # Short-lived helpers of the engine may end while they are looked at.
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                self._look_at_process(process)
        for process in engine:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError):
                self._look_into(process)
        for name, process in (("daemon", daemon), ("engine", psutil.Process(engine_pid))):
            seen = Path(f"/proc/{process.pid}/environ").stat()
            self.owners[name] = (seen.st_uid, seen.st_gid)
            self.identities[name] = (process.uids().effective, process.gids().effective)
        self.read_all(node.directory, "during")

    def _look_at_process(self, process: psutil.Process) -> None:
        name = f"{process.name()} {process.pid}"
        for what in ("environ", "cmdline"):
            self.shown[f"{name} {what}"] = Path(f"/proc/{process.pid}/{what}").read_bytes()
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        self.core_limits |= {tuple(line.split()[4:6]) for line in limits.splitlines() if "core file" in line}

    def _look_into(self, process: psutil.Process) -> None:
        self.targets |= {mapping.path for mapping in process.memory_maps()}
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
                regular = stat.S_ISREG(descriptor.stat().st_mode)
                if regular:
                    with descriptor.open("rb") as file:
                        self.opened[f"{process.name()} {target}"] = file.read(LARGEST_FILE)
            except FileNotFoundError:
                continue  # closed meanwhile
            self.targets.add(target)

    def read_all(self, directory: Path, when: str) -> None:
        """Note what is in the files of the node."""
        for path in directory.rglob("*"):
            try:
                if path.is_file() and not path.is_symlink():
                    self.written[f"{when}: {path.relative_to(directory)}"] = path.read_bytes()
            except FileNotFoundError:
                continue  # deleted meanwhile


def places(contents: Mapping[str, bytes], holds: Callable[[bytes], bool]) -> set[str]:
    return {place for place, content in contents.items() if holds(content)}


async def passed(node: DevNode, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until the condition holds of the node's status."""
    status: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PASSED_WITHIN_S):
            while not holds(status := await node.status()):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not so in {PASSED_WITHIN_S} s: {status}\n{node.log_tail()}") from None


def all_is_credited(status: dict[str, Any]) -> bool:
    return bool(status["oracle"]["tokens_reported"] == status["usage"]["total"]["tokens"] > 0)


def heart_beats(status: dict[str, Any]) -> bool:
    return bool(status["chain"]["registered"] and status["chain"]["heartbeats"] > 0)


async def live(node: DevNode, client: LanguageModelClient) -> None:
    """What a node does in its life, with the death of an engine."""
    first = (await node.wait_for("serving"))["engine"]
    await client.generate(REQUEST)
    os.kill(first["pid"], signal.SIGKILL)
    await passed(node, lambda status: status["serving"] and status["engine"]["incarnation"] != first["incarnation"])
    await client.generate(REQUEST)
    await passed(node, all_is_credited)
    await passed(node, heart_beats)


async def spied(node: DevNode, sandbox: str, roots: tuple[str, ...]) -> Found:
    """Let the node run with a spy for an engine; what that has found."""
    known = tuple(str(path) for path in node.directory.rglob("*"))
    needles = tuple(needle.hex() for needle in (KEY, KEY.hex().encode(), *WRITTEN, PASSWORD.encode()))
    task, spy = node.directory.parent / "task.json", node.directory.parent / "spy"
    task.write_text(json.dumps(asdict(Task(needles, roots, known))))
    spy.write_text(f"#!/bin/sh\nexec {ENGINE_PYTHON} -P {secret_search.__file__} {task}\n")
    spy.chmod(0o755)
    engine = {**node.extra.get("engine", {}), "python": str(spy), "sandbox": sandbox}
    node.config_file.write_text(toml({**node.tables(), "engine": {**node.tables()["engine"], **engine}}))
    result = node.directory / "cache" / secret_search.FOUND
    async with node:
        await node.wait_for_control()
        deadline = time.monotonic() + PASSED_WITHIN_S
        while not result.exists():
            assert time.monotonic() < deadline, node.log_tail()
            await asyncio.sleep(0.1)
        found = Found(**json.loads(result.read_text()))
        assert f"/proc/{node.process.pid}/cmdline" in found.opened
        found.opened = [path.replace(f"/proc/{node.process.pid}/", "/proc/daemon/") for path in found.opened]
    result.unlink()
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evidence() -> AsyncIterator[Evidence]:
    with short_directory() as place:
        model = make_bloom(place / "model", blocks=BLOCKS)
        async with (
            running_bootstrap(place) as peers,
            DevChain() as chain,
            DevOracle(OracleConfig(rpc_url=chain.url, sponsor_url=chain.admin_url)) as oracle,
        ):
            node = DevNode(
                place / "node",
                model,
                f"0:{BLOCKS}",
                "0x" + KEY.hex(),
                oracle.url,
                chain.url,
                initial_peers=peers,
                extra={"log": {"level": "debug"}, "oracle": {"endpoint": "http://203.0.113.7:31331"}},
                # The kernel shows as root's what is not dumpable; where all is root's, a group of its own tells.
                group=NOBODY if os.geteuid() == 0 else None,
            )
            await chain.admin.fund(node.prepare(), 10**18)
            evidence = Evidence()
            async with node, LanguageModelClient.swarm(model, "devnet", peers, log=place / "client.log") as client:
                await live(node, client)
                await asyncio.to_thread(evidence.look_at, node, (await node.status())["engine"]["pid"])
                assert await node.stop() == 0
            await asyncio.to_thread(evidence.read_all, node.directory, "after")
            evidence.log = node.log_file.read_text()
            evidence.confined = await spied(node, "auto", roots=(str(place), str(model), *OPEN_TO_MANY))
            evidence.unconfined = await spied(node, "off", roots=(str(node.directory),))
            yield evidence


def in_the_wallet(names: Iterable[str]) -> set[str]:
    return {name for name in names if "/wallet" in name or "keystore" in name or name.endswith("/password")}


@pytest.mark.parametrize(
    "text", [KEY, b"x" + KEY.hex().encode(), b"0x" + KEY.hex().upper().encode(), repr(KEY).encode()]
)
async def test_the_search_finds_a_key_in_every_form(text: bytes) -> None:
    assert holds_the_key(b"before " + text + b" after")


async def test_the_run_was_a_full_one(evidence: Evidence) -> None:
    assert key(KEY[0]) == "0x" + KEY.hex()
    assert "DEBUG" in evidence.log or "<7>" in evidence.log
    assert any("p2pd" in place for place in evidence.shown)
    assert any(place.endswith("ledger.sqlite") for place in evidence.written)


async def test_no_file_of_the_node_holds_the_key(evidence: Evidence) -> None:
    assert places(evidence.written, holds_the_key) == set()


async def test_no_file_of_the_node_but_the_operators_own_holds_the_password(evidence: Evidence) -> None:
    assert places(evidence.written, holds_the_password) == {"during: password", "after: password"}


async def test_no_environment_and_no_command_line_holds_a_secret(evidence: Evidence) -> None:
    assert places(evidence.shown, holds_the_key) | places(evidence.shown, holds_the_password) == set()


async def test_the_engine_has_nothing_open_that_holds_a_secret(evidence: Evidence) -> None:
    assert evidence.opened
    assert places(evidence.opened, holds_the_key) | places(evidence.opened, holds_the_password) == set()


async def test_the_engine_has_no_file_of_the_wallet_open(evidence: Evidence) -> None:
    assert in_the_wallet(evidence.targets) == set()


async def test_a_spy_without_the_sandbox_gets_at_the_password(evidence: Evidence) -> None:
    assert any(path.endswith("/node/password") for path in evidence.unconfined.telling)
    assert in_the_wallet(evidence.unconfined.opened)


async def test_nothing_that_the_engine_can_open_holds_a_secret(evidence: Evidence) -> None:
    if LayerName.FILES not in evidence.confined.active:
        pytest.skip("this kernel has no Landlock: nothing hides files from another process of the same user")
    assert any(path.endswith("/model/config.json") for path in evidence.confined.opened)
    assert evidence.confined.telling == []
    assert in_the_wallet(evidence.confined.opened) == set()


async def test_of_the_daemon_the_engine_sees_the_arguments_only(evidence: Evidence) -> None:
    assert {path for path in evidence.confined.opened if path.startswith("/proc/daemon/")} == {"/proc/daemon/cmdline"}


async def test_no_process_of_the_node_leaves_a_core_file(evidence: Evidence) -> None:
    assert evidence.core_limits == {("0", "0")}


async def test_the_daemons_memory_is_closed_to_processes_of_its_own_user(evidence: Evidence) -> None:
    assert evidence.identities["daemon"] != (0, 0)
    assert evidence.owners["daemon"] == (0, 0)
    assert evidence.owners["engine"] == evidence.identities["engine"]
