"""The control socket with its real server, its real client, and the command line on top."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from plumised.cli import main
from plumised.config import ConfigError, ConfigProblem
from plumised.daemon.reloading import ReloadBusyError, RestartNeededError
from plumised.errors import PlumisedError
from plumised.observe.control import MAX_WAITS, ControlServer
from plumised.observe.control_client import (
    ControlClient,
    ControlError,
    ControlTimeoutError,
    NoDaemonError,
)
from plumised.observe.control_socket import ControlSocketError, ControlSocketInUseError
from plumised.observe.deeds import Deed, RewardsAnswer
from plumised.observe.metrics_server import MetricsListenError, MetricsServer
from plumised.observe.reloaded import Reloaded
from plumised.observe.status import EngineState, Status
from tests.unit.observe import statuses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

PATIENCE_S = 20.0


PLM = 10**18
REWARDS = RewardsAnswer(
    agent=statuses.AGENT,
    pending_wei=2 * PLM,
    epoch=12,
    contribution=(1, 2, 3, 4, 5, 2**70),
    in_registry=False,
    registry_active=None,
    automatic=False,
    threshold_wei=PLM,
    claims=0,
    claimed_wei=0,
    claim=Deed(done=False, message="The AgentRegistry does not have it", code="registry-missing", remedy="Register."),
)


def nobody(_pid: int) -> bool:
    """Whom the socket is closed to."""
    return False


class Node:
    """What the socket steers, with a status that a test sets."""

    def __init__(self) -> None:
        self.current: Status = statuses.HEALTHY
        self.asked = asyncio.Event()
        self.stops = 0
        self.restarts = 0
        self.chain_trouble: PlumisedError | None = None
        self.reloaded: Reloaded | PlumisedError = Reloaded()
        self.may_reload = asyncio.Event()
        self.may_reload.set()
        self.may_claim = asyncio.Event()
        self.may_claim.set()
        self.claimed = Deed(done=True, message="2 PLM claimed", transaction="0x12", amount_wei=2 * PLM, cost_wei=7)

    def status(self) -> Status:
        self.asked.set()
        return self.current

    def stop(self) -> None:
        self.stops += 1

    def restart_engine(self) -> None:
        self.restarts += 1

    async def reload(self) -> Reloaded:
        await self.may_reload.wait()
        if isinstance(self.reloaded, PlumisedError):
            raise self.reloaded
        return self.reloaded

    async def rewards(self) -> RewardsAnswer:
        if self.chain_trouble is not None:
            raise self.chain_trouble
        return REWARDS

    async def claim(self, *, dry_run: bool) -> Deed:
        await self.may_claim.wait()
        return REWARDS.claim if dry_run else self.claimed

    async def register(self, *, registry: bool, dry_run: bool) -> Deed:
        return Deed(done=registry, message=f"registry {registry}, dry run {dry_run}", code="some-code", remedy="Do it.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


@pytest.fixture
async def node() -> Node:
    return Node()


@pytest.fixture
async def server(path: Path, node: Node) -> AsyncIterator[ControlServer]:
    async with ControlServer(path, node, nobody) as made:
        yield made


async def plumised(*arguments: str) -> int:
    """The command line, beside the event loop that the server needs."""
    return await asyncio.to_thread(main, arguments)


@asynccontextmanager
async def session(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), base_url="http://plumised") as made:
        yield made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("server")
async def test_status_is_told_as_text_and_as_json(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await plumised("status", "--socket", str(path)) == 0
    assert capsys.readouterr().out.startswith("node     alpha, plumised 0.1.0")

    assert await plumised("status", "--json", "--socket", str(path)) == 0
    assert json.loads(capsys.readouterr().out)["serving"] is True


@pytest.mark.usefixtures("server")
async def test_the_socket_is_found_through_the_configuration(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nruntime_dir = "{path.parent}"\n', encoding="utf-8")

    assert await plumised("status", "--config", str(config)) == 0
    assert capsys.readouterr().out.startswith("node     alpha")


@pytest.mark.usefixtures("server")
async def test_only_owner_and_group_may_connect(path: Path) -> None:
    found = path.stat()

    assert stat.S_ISSOCK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o660


@pytest.mark.usefixtures("server")
async def test_stop_and_restart_reach_the_node(path: Path, node: Node) -> None:
    assert await plumised("stop", "--socket", str(path)) == 0
    assert await plumised("restart-engine", "--socket", str(path)) == 0

    assert (node.stops, node.restarts) == (1, 1)


@pytest.mark.usefixtures("server")
async def test_a_reload_tells_what_was_applied(path: Path, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.reloaded = Reloaded(("log.level",), ("engine.handlers",))
    assert await plumised("reload", "--socket", str(path)) == 0
    assert capsys.readouterr().out == "Applied log.level, engine.handlers; the engine is started anew\n"

    assert await plumised("reload", "--json", "--socket", str(path)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["live"], told["engine"]) == (["log.level"], ["engine.handlers"])


@pytest.mark.usefixtures("server")
async def test_a_reload_of_a_bad_file_ends_with_78_and_has_every_reason(
    path: Path, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path("/etc/plumise/node.toml")
    problems = (
        ConfigProblem(file, 3, "engine.handlers", "is 0, which is out of range", "Write a number from 1 to 32."),
        ConfigProblem(file, 9, "log.levle", "is not a key", "Did you mean log.level?"),
    )
    node.reloaded = ConfigError(problems)
    assert await plumised("reload", "--socket", str(path)) == 78
    assert capsys.readouterr().err.splitlines() == [f"plumised: {problem}" for problem in problems]


@pytest.mark.usefixtures("server")
async def test_a_reload_that_needs_another_start_ends_with_78(
    path: Path, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.reloaded = RestartNeededError("node.toml asks for another start", "Restart it.")
    assert await plumised("reload", "--socket", str(path)) == 78
    assert capsys.readouterr().err == "plumised: node.toml asks for another start (reload-needs-restart). Restart it.\n"


@pytest.mark.usefixtures("server")
async def test_a_reload_that_takes_too_long_ends_with_75(
    path: Path, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.may_reload.clear()
    assert await plumised("reload", "--timeout", "0.1", "--socket", str(path)) == 75
    assert "after 0.1 s" in capsys.readouterr().err


@pytest.mark.usefixtures("server")
async def test_a_reload_that_something_else_hinders_is_no_mistake_of_the_operator(
    path: Path, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.reloaded = ReloadBusyError("Two are under way", "Wait.")
    assert await plumised("reload", "--socket", str(path)) == 70
    assert capsys.readouterr().err == "plumised: Two are under way (reload-busy). Wait.\n"


@pytest.mark.usefixtures("server")
async def test_waiting_ends_when_the_node_serves(path: Path, node: Node) -> None:
    node.current = statuses.engine(state=EngineState.STARTING)
    waiting = asyncio.create_task(plumised("wait", "--for", "serving", "--socket", str(path)))
    async with asyncio.timeout(PATIENCE_S):
        await node.asked.wait()
    assert not waiting.done()

    node.current = statuses.HEALTHY

    async with asyncio.timeout(PATIENCE_S):
        assert await waiting == 0


@pytest.mark.usefixtures("server")
async def test_waiting_for_what_is_already_ends_at_once(path: Path) -> None:
    assert await plumised("wait", "--for", "registered", "--timeout", "0.001", "--socket", str(path)) == 0


@pytest.mark.usefixtures("server")
async def test_waiting_too_long_says_where_the_node_stands(
    path: Path, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.current = statuses.engine(state=EngineState.STARTING, phase="loading", blocks_loaded=3, blocks_to_load=12)

    assert await plumised("wait", "--for", "serving", "--timeout", "0.1", "--socket", str(path)) == 75

    told = capsys.readouterr().err
    assert told.startswith("plumised: The node is not serving after 0.1 s. Engine starting, loading block 3 of 12")


async def test_waiting_for_the_end_ends_with_the_server(path: Path, node: Node) -> None:
    async with session(path) as http:
        async with ControlServer(path, node, nobody) as server:
            waiting = asyncio.create_task(http.get("/v1/wait?for=stopped"))
            command = asyncio.create_task(plumised("wait", "--for", "stopped", "--socket", str(path)))
            await until(lambda: server._waits == 2)

        async with asyncio.timeout(PATIENCE_S):
            assert (await waiting).status == 200
            assert await command == 0


async def test_waiting_for_the_end_of_nothing_ends_at_once(path: Path) -> None:
    assert await plumised("wait", "--for", "stopped", "--socket", str(path)) == 0


async def test_those_who_wait_for_more_are_told_that_the_daemon_stops(path: Path, node: Node) -> None:
    node.current = statuses.engine(state=EngineState.STARTING)
    client = ControlClient(path)
    async with ControlServer(path, node, nobody):
        waiting = asyncio.create_task(asyncio.to_thread(client.wait, "serving", 60.0))
        await asyncio.wait_for(node.asked.wait(), PATIENCE_S)

    with pytest.raises(ControlError, match="The daemon stops, so the node will not be serving"):
        await waiting


async def test_so_many_may_wait_and_no_more(path: Path, node: Node) -> None:
    node.current = statuses.engine(state=EngineState.STARTING)
    async with ControlServer(path, node, nobody):
        connector = aiohttp.UnixConnector(str(path), limit=0)
        async with aiohttp.ClientSession(connector=connector, base_url="http://plumised") as http:
            answers = [asyncio.ensure_future(http.get("/v1/wait?for=serving")) for _ in range(MAX_WAITS + 1)]
            done, waiting = await asyncio.wait(answers, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)

            (refused,) = done
            assert (await refused).status == 503
            assert (await (await refused).json())["code"] == "control-busy"
            assert len(waiting) == MAX_WAITS

            node.current = statuses.HEALTHY
            async with asyncio.timeout(PATIENCE_S):
                assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}


@pytest.mark.usefixtures("server")
async def test_who_hangs_up_no_longer_waits(path: Path, node: Node, server: ControlServer) -> None:
    node.current = statuses.engine(state=EngineState.STARTING)
    async with session(path) as http:
        waiting = asyncio.create_task(http.get("/v1/wait?for=serving"))
        await asyncio.wait_for(node.asked.wait(), PATIENCE_S)
        assert server._waits == 1
        waiting.cancel()

    await until(lambda: server._waits == 0)


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v1/status?format=xml", 400),
        ("GET", "/v1/wait", 400),
        ("GET", "/v1/wait?for=ever", 400),
        ("GET", "/v1/wait?for=serving&timeout_s=soon", 400),
        ("GET", "/v1/wait?for=serving&timeout_s=nan", 400),
        ("GET", "/v1/wait?for=serving&timeout_s=-1", 400),
        ("GET", "/v1/wait?for=serving&timeout_s=1e9", 400),
        ("GET", "/v1/stop", 405),
        ("POST", "/v1/status", 405),
        ("GET", "/v2/status", 404),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_a_remedy(
    path: Path, node: Node, method: str, target: str, status: int
) -> None:
    async with session(path) as http, http.request(method, target) as response:
        assert response.status == status
        answer = await response.json()

    assert answer["code"] == "control-request"
    assert answer["message"]
    assert answer["remedy"].endswith(".")
    assert node.stops == 0


@pytest.mark.usefixtures("server")
async def test_garbage_on_the_socket_harms_nobody(path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(os.urandom(512) + b"\r\n\r\n")
    await writer.drain()
    await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()

    assert json.loads(await asyncio.to_thread(ControlClient(path).status))["serving"] is True


async def test_no_daemon_is_one_line_with_a_remedy(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await plumised("status", "--socket", str(path)) == 69

    assert capsys.readouterr().err == (
        f"plumised: No daemon answers at {path}: there is no such socket (no-daemon). "
        "Start it with `systemctl start plumised`, or name its socket with --socket.\n"
    )


async def test_a_socket_that_nothing_listens_on_is_no_daemon(path: Path) -> None:
    leave_socket(path)

    with pytest.raises(NoDaemonError, match="nothing listens there"):
        ControlClient(path).status()


async def test_a_daemon_that_hangs_is_told_from_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plumised.observe.control_client.ANSWER_TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hanging:
        hanging.bind(str(path))
        hanging.listen()

        with pytest.raises(ControlTimeoutError, match="did not answer"):
            await asyncio.to_thread(ControlClient(path).status)


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nx"])
async def test_an_answer_that_breaks_off_is_no_daemon(path: Path, answer: bytes) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(break_off, path):
        with pytest.raises(NoDaemonError):
            await asyncio.to_thread(ControlClient(path).status)


async def test_a_refusal_in_another_form_is_told(path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(refuse, path):
        with pytest.raises(ControlError, match="answered 418 in a form"):
            await asyncio.to_thread(ControlClient(path).status)


async def test_the_socket_of_a_dead_daemon_is_replaced(path: Path, node: Node) -> None:
    leave_socket(path)

    async with ControlServer(path, node, nobody):
        assert json.loads(await asyncio.to_thread(ControlClient(path).status))["serving"] is True


async def test_the_socket_of_a_killed_daemon_is_replaced(path: Path, node: Node) -> None:
    program = (
        "import sys, time; from pathlib import Path; from plumised.observe.control_socket import ControlSocket;"
        "ControlSocket(Path(sys.argv[1])).open().listen(); print(flush=True); time.sleep(600)"
    )
    killed = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    await asyncio.to_thread(killed.stdout.readline)
    with pytest.raises(ControlSocketInUseError):
        await ControlServer(path, node, nobody).__aenter__()
    killed.send_signal(signal.SIGKILL)
    await asyncio.to_thread(killed.wait)
    killed.stdout.close()

    async with ControlServer(path, node, nobody):
        assert json.loads(await asyncio.to_thread(ControlClient(path).status))["serving"] is True


@pytest.mark.usefixtures("server")
async def test_a_second_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    with pytest.raises(ControlSocketInUseError, match="Another daemon listens"):
        await ControlServer(path, Node(), nobody).__aenter__()

    assert json.loads(await asyncio.to_thread(ControlClient(path).status))["serving"] is True


async def test_a_socket_that_another_program_listens_on_is_not_taken(path: Path, node: Node) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(path))
        other.listen()

        with pytest.raises(ControlSocketInUseError):
            await ControlServer(path, node, nobody).__aenter__()

    assert path.exists()


async def test_a_file_in_the_place_of_the_socket_is_not_removed(path: Path, node: Node) -> None:
    path.write_text("precious", encoding="utf-8")

    with pytest.raises(ControlSocketError, match="is not a socket"):
        await ControlServer(path, node, nobody).__aenter__()

    assert path.read_text(encoding="utf-8") == "precious"


async def test_a_directory_that_is_missing_is_told(tmp_path: Path, node: Node) -> None:
    with pytest.raises(ControlSocketError, match="No such file or directory"):
        await ControlServer(tmp_path / "missing/control.sock", node, nobody).__aenter__()


async def test_a_path_that_is_too_long_is_told(tmp_path: Path, node: Node) -> None:
    with pytest.raises(ControlSocketError, match="more than 107 bytes"):
        await ControlServer(tmp_path / ("x" * 120), node, nobody).__aenter__()


async def test_the_socket_is_gone_after_the_end(path: Path, node: Node) -> None:
    async with ControlServer(path, node, nobody):
        pass

    assert not path.exists()


async def test_a_socket_that_somebody_else_made_meanwhile_stays(path: Path, node: Node) -> None:
    async with ControlServer(path, node, nobody):
        path.unlink()
        leave_socket(path)

    assert path.exists()


async def test_metrics_and_health_are_served(node: Node) -> None:
    async with MetricsServer("127.0.0.1", 0, node.status) as metrics, aiohttp.ClientSession() as http:
        base = f"http://127.0.0.1:{metrics.port}"
        async with http.get(f"{base}/metrics") as response:
            assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "\nplumise_serving 1\n" in await response.text()
        async with http.get(f"{base}/health") as response:
            assert (response.status, await response.json()) == (200, {"serving": True, "problems": []})

        node.current = statuses.engine(stuck="dht")
        async with http.get(f"{base}/health") as response:
            assert (response.status, await response.json()) == (503, {"serving": False, "problems": ["engine-stuck"]})


async def test_a_warning_does_not_make_a_node_unhealthy(node: Node) -> None:
    node.current = statuses.chain(registered=False)

    async with (
        MetricsServer("127.0.0.1", 0, node.status) as metrics,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{metrics.port}/health") as response,
    ):
        assert (response.status, await response.json()) == (200, {"serving": True, "problems": ["not-registered"]})


async def test_a_port_that_is_taken_is_told(node: Node) -> None:
    async with MetricsServer("127.0.0.1", 0, node.status) as first:
        with pytest.raises(MetricsListenError, match=f"port {first.port}: another program listens there"):
            await MetricsServer("127.0.0.1", first.port, node.status).__aenter__()


def leave_socket(path: Path) -> None:
    """What a daemon that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
        dead.listen()


@pytest.mark.usefixtures("server")
async def test_rewards_are_shown_with_what_the_registry_needs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await plumised("rewards", "--socket", str(path)) == 0
    shown = capsys.readouterr().out
    assert "pending       2 PLM, epoch 12\n" in shown
    assert "registry      does not have the agent: run plumised register --registry\n" in shown
    assert "(registry-missing)" in shown

    assert await plumised("rewards", "--json", "--socket", str(path)) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pending_wei"], told["contribution"][5], told["claim"]["done"]) == (str(2 * PLM), str(2**70), False)


@pytest.mark.usefixtures("server")
async def test_a_claim_is_told_with_its_transaction(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await plumised("rewards", "--claim", "--socket", str(path)) == 0
    assert capsys.readouterr().out == "2 PLM claimed (0x12)\n"

    assert await plumised("rewards", "--claim", "--json", "--socket", str(path)) == 0
    assert json.loads(capsys.readouterr().out)["amount_wei"] == str(2 * PLM)


@pytest.mark.usefixtures("server")
async def test_a_claim_that_is_not_possible_is_one_line_and_1(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await plumised("rewards", "--claim", "--dry-run", "--socket", str(path)) == 1
    assert capsys.readouterr().err == "plumised: The AgentRegistry does not have it (registry-missing). Register.\n"


@pytest.mark.usefixtures("server")
async def test_a_claim_that_takes_longer_goes_on(path: Path, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.may_claim.clear()
    assert await plumised("rewards", "--claim", "--timeout", "0.05", "--socket", str(path)) == 75
    assert "goes on" in capsys.readouterr().err


@pytest.mark.usefixtures("server")
async def test_a_chain_that_cannot_be_asked_is_told(path: Path, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    node.chain_trouble = PlumisedError("No endpoint answers", "Check chain.rpc_urls.")
    assert await plumised("rewards", "--socket", str(path)) == 70
    assert "No endpoint answers" in capsys.readouterr().err


@pytest.mark.usefixtures("server")
async def test_registering_reaches_the_node_as_it_was_asked_for(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await plumised("register", "--registry", "--dry-run", "--socket", str(path)) == 0
    assert capsys.readouterr().out == "registry True, dry run True\n"
    assert await plumised("register", "--socket", str(path)) == 1
    assert "registry False, dry run False" in capsys.readouterr().err


async def test_a_trial_without_a_claim_is_a_mistake(path: Path) -> None:
    assert await plumised("rewards", "--dry-run", "--socket", str(path)) == 64


# Who may not come in


PROBE = """
import os, sys
from pathlib import Path
from plumised.observe.control_client import ControlClient, ControlError, NoDaemonError
if sys.argv[2] == "orphan":
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    os.setsid()
    while os.getppid() == parent:
        pass
try:
    ControlClient(Path(sys.argv[1])).status()
except (ControlError, NoDaemonError) as error:
    print(f"turned away ({error.code})", flush=True)
else:
    print("let in", flush=True)
"""


@pytest.mark.parametrize("way", ["child", "orphan"])
async def test_what_the_daemon_has_started_is_turned_away_even_as_an_orphan_of_its_own(path: Path, way: str) -> None:
    # The server stands in a process of its own, so that this one is not the daemon.
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.doorkeeper", str(path), PROBE, way, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert (await server.stdout.readline()).startswith(b"turned away")
        # Nobody else is.
        assert json.loads(await asyncio.to_thread(ControlClient(path).status))
    finally:
        server.kill()
        await server.wait()


async def test_whom_the_socket_is_closed_to_is_told_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    async with ControlServer(path, node, lambda pid: pid == os.getpid()):
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(str(path))
            async with asyncio.timeout(PATIENCE_S):
                answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 403 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "control-engine"
        completed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "plumised", "status", "--socket", str(path)],
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert completed.returncode == 0
    assert caplog.text.count("turned process") == 1
