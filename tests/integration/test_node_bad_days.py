"""Bad input and bad days: whatever is wrong, the node says what and what to do, and keeps the work that it counted.

Where only the operator can help the daemon ends with status 78; whatever may pass is in its status, and it goes on.

A clock that jumps cannot be given to one process alone. The parts are given one in tests/unit/ledger/test_reports.py
(signed timestamps), tests/unit/oracle/test_planning.py and tests/integration/test_reporter.py (reports), and
tests/unit/engine/test_pulse.py (health, which goes by the monotonic clock).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plumised.ipc.messages import Counters, Usage
from plumised.ipc.tally import TallyWriter
from plumised.ledger import Ledger
from tests.devnet.chain import DevChain
from tests.devnet.client import LanguageModelClient, Request
from tests.devnet.model import drop_weights, make_bloom
from tests.devnet.node import DevNode, free_port, key
from tests.devnet.oracle import DevOracle, OracleConfig
from tests.unit.ledger.histories import damage_beneath

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

pytestmark = pytest.mark.timeout(180)

BLOCKS = 2
EARLIER_TOKENS = 40
"""What every node here has served in an earlier life."""
NO_ENGINE = Path("/nonexistent/python")
NOBODY = "http://127.0.0.1:9"
ALONE: dict[str, dict[str, object]] = {"oracle": {"enabled": False}, "chain": {"enabled": False}}
EXIT_OPERATOR = 78
PEER_ID = "QmNbcm8MePJt1UW113rd1Z6Ki1jn26zDFud1cAAFz5N91W"


@pytest.fixture(scope="module")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bloom(tmp_path_factory.mktemp("model"), blocks=BLOCKS)


def served(tokens: int) -> Usage:
    return Usage(Counters(1, 1, tokens, tokens), Counters(), Counters())


def node_with_a_past(node: DevNode) -> DevNode:
    """The node, its files written, with work in its ledger."""
    node.prepare()
    with closing(Ledger(node.directory / "state" / "ledger.sqlite", time.time)) as ledger:
        ledger.usage.close("an-earlier-life", [("an-earlier-life", "handler-0-1", served(EARLIER_TOKENS))])
    return node


def tokens_kept(node: DevNode) -> int:
    """What the ledger of a node that has ended holds."""
    with closing(Ledger(node.directory / "state" / "ledger.sqlite", time.time)) as ledger:
        return ledger.usage.totals().tokens


def engineless(place: Path, extra: dict[str, dict[str, object]] | None = None, byte: int = 0xAA) -> DevNode:
    """A node whose engine cannot be started, which takes it nothing."""
    return node_with_a_past(
        DevNode(place / "node", place, "0:1", key(byte), NOBODY, NOBODY, python=NO_ENGINE, extra=extra or {})
    )


async def seen(node: DevNode, fits: Callable[[dict[str, Any]], bool], timeout_s: float = 60.0) -> dict[str, Any]:
    """The first status that fits."""
    await node.wait_for_control()
    status: dict[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while not fits(status := await node.status()):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not so in {timeout_s} s: {json.dumps(status)}\n{node.log_tail()}") from None
    return status


def problems(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a status says is wrong, by code."""
    return {problem["code"]: problem for problem in status["problems"]}


# What only the operator can mend


def wrong_password(node: DevNode) -> None:
    (node.directory / "password").write_text("not the password\n")


def no_keystore(node: DevNode) -> None:
    (node.directory / "state" / "wallet" / "keystore.json").unlink()


def open_keystore(node: DevNode) -> None:
    (node.directory / "state" / "wallet" / "keystore.json").chmod(0o644)


def no_password_file(node: DevNode) -> None:
    (node.directory / "password").unlink()


def file_for_directory(node: DevNode) -> None:
    wrong = node.directory / "wrong"
    wrong.touch()
    text = node.config_file.read_text()
    node.config_file.write_text(text.replace(str(node.directory / "state"), str(wrong)))


def damaged_keystore(node: DevNode) -> None:
    (node.directory / "state" / "wallet" / "keystore.json").write_text("{")


@pytest.mark.parametrize(
    ("code", "names", "spoil"),
    [
        ("wallet-password", "keystore.json", wrong_password),
        ("wallet-missing", "plumised wallet create", no_keystore),
        ("wallet-damaged", "keystore.json", damaged_keystore),
        ("secret-file-exposed", "chmod 600", open_keystore),
        ("secret-file-missing", "password", no_password_file),
        ("directory-not-writable", "node.state_dir", file_for_directory),
    ],
)
async def test_the_daemon_ends_with_78_and_one_line_that_says_what_to_change(
    place: Path, code: str, names: str, spoil: Callable[[DevNode], None]
) -> None:
    node = engineless(place)
    spoil(node)
    await node.start()
    assert await node.ended(30) == EXIT_OPERATOR
    log = node.log_tail()
    (told,) = [line for line in log.splitlines() if f"({code})" in line]
    assert told.startswith("plumised: ")
    assert names in told
    assert "Traceback" not in log
    assert tokens_kept(node) == EARLIER_TOKENS


async def test_a_second_daemon_with_the_same_wallet_ends_with_78_and_names_the_first(place: Path) -> None:
    async with engineless(place) as first:
        await first.wait_for_control()
        keystore = str(first.directory / "state" / "wallet" / "keystore.json")
        password = str(first.directory / "password")
        wallet: dict[str, object] = {"keystore": keystore, "password_file": password}
        second = engineless(place / "second", {"wallet": wallet})
        await second.start()
        assert await second.ended(30) == EXIT_OPERATOR
        assert f"process {first.process.pid} " in second.log_tail()
        assert "(wallet-in-use)" in second.log_tail()
        assert "Traceback" not in second.log_tail()
        assert (await first.status())["usage"]["total"]["tokens"] == EARLIER_TOKENS


# What keeps the engine from starting


@dataclass
class Site:
    """A node that is to be made, and what stands about it."""

    place: Path
    bloom: Path
    listener: socket.socket

    def node(self, extra: dict[str, dict[str, object]] | None = None, **changes: Any) -> DevNode:
        arguments: dict[str, Any] = {"model": self.bloom, "blocks": f"0:{BLOCKS}", "extra": {**ALONE, **(extra or {})}}
        return node_with_a_past(
            DevNode(
                self.place / "node",
                private_key=key(0xAA),
                oracle_url=NOBODY,
                rpc_url=NOBODY,
                **{**arguments, **changes},
            )
        )


@pytest.fixture
def site(place: Path, bloom: Path) -> Iterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Site(place, bloom, listener)


def without_weights(site: Site) -> DevNode:
    model = shutil.copytree(site.bloom, site.place / "incomplete")
    drop_weights(model, 1, "mlp.")
    return site.node(model=model)


def with_directory_as_identity(site: Site) -> DevNode:
    node = site.node()
    (node.directory / "state" / "identity.key").mkdir()
    return node


def with_empty_identity(site: Site) -> DevNode:
    node = site.node()
    (node.directory / "state" / "identity.key").touch()
    return node


@dataclass(frozen=True)
class Case:
    """An engine that does not start.

    Attributes:
        code: of the failure.
        state: that the supervision is in then.
        names: what the message says among other things.
        node: makes the node.
    """

    code: str
    state: str
    names: str
    node: Callable[[Site], DevNode]


CASES = {
    "no interpreter": Case("engine-missing", "failed", str(NO_ENGINE), lambda site: site.node(python=NO_ENGINE)),
    "an interpreter without torch": Case(
        "engine-environment", "failed", "torch missing", lambda site: site.node(python=Path(sys.executable))
    ),
    "no model": Case("model-not-found", "failed", "/missing", lambda site: site.node(model=site.place / "missing")),
    "tensors missing": Case("model-incomplete", "failed", "block 1", without_weights),
    "span outside": Case("span-outside-model", "failed", f"0:{BLOCKS}", lambda site: site.node(blocks="1:9")),
    "port taken": Case(
        "port-taken", "backoff", "/tcp/", lambda site: site.node(port=int(site.listener.getsockname()[1]))
    ),
    "a directory as identity": Case("identity-unreadable", "failed", "identity.key", with_directory_as_identity),
    "an empty identity": Case("identity-unreadable", "failed", "empty", with_empty_identity),
}


@pytest.mark.engine
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_the_status_says_why_the_engine_does_not_start_and_when_it_is_tried_again(site: Site, case: Case) -> None:
    async with case.node(site) as node:
        # The first pauses are short; what a status shows may be the start after one.
        status = await seen(node, lambda status: status["engine"]["next_try_at"] is not None)
        engine = status["engine"]
        failure = engine["failure"]
        assert (failure["code"], engine["state"]) == (case.code, case.state), node.log_tail()
        assert case.names in failure["message"]
        assert failure["remedy"]
        assert engine["next_try_at"] > status["at"] - 1
        assert failure["message"] in await asyncio.to_thread(node.control.status, "text")
        assert status["usage"]["total"]["tokens"] == EARLIER_TOKENS
        assert await node.stop() == 0
    assert "Traceback" not in node.log_tail()
    assert tokens_kept(node) == EARLIER_TOKENS


@pytest.mark.engine
async def test_a_peer_that_never_answers_is_named_and_tried_on(site: Site) -> None:
    peer = f"/ip4/127.0.0.1/tcp/{site.listener.getsockname()[1]}/p2p/{PEER_ID}"
    async with site.node(initial_peers=[peer]) as node:
        status = await seen(node, lambda status: status["engine"]["failure"] is not None, 120)
        engine = status["engine"]
        assert engine["failure"]["code"] == "swarm-unreachable", node.log_tail()
        assert "swarm" in engine["failure"]["remedy"]
        # Stopped at the next start's first moment, which is no reason for a traceback either.
        await seen(node, lambda status: status["engine"]["restarts"] > engine["restarts"])
        assert await node.stop() == 0
    assert "Traceback" not in node.log_tail()
    assert tokens_kept(node) == EARLIER_TOKENS


# Oracle and chain


@pytest.fixture
async def alone(site: Site) -> AsyncIterator[tuple[DevNode, int, int]]:
    """A node whose Oracle and chain do not answer, and the ports at which they could."""
    oracle_port, chain_port = free_port(), free_port()
    node = DevNode(
        site.place / "node",
        site.bloom,
        f"0:{BLOCKS}",
        key(0xAA),
        f"http://127.0.0.1:{oracle_port}",
        f"http://127.0.0.1:{chain_port}",
    )
    async with node_with_a_past(node):
        yield node, oracle_port, chain_port


@pytest.mark.engine
async def test_without_oracle_and_chain_the_node_serves_and_what_it_served_is_booked_once_they_are_back(
    alone: tuple[DevNode, int, int], site: Site
) -> None:
    node, oracle_port, chain_port = alone
    status = await node.wait_for("serving")
    peers = status["engine"]["addresses"]
    async with LanguageModelClient.swarm(site.bloom, "devnet", peers, log=site.place / "client.log") as client:
        generated = await client.generate(Request(4, ids=tuple(range(5, 12))))
    unreachable = ("oracle-unreachable", "rpc-none-usable")
    status = await seen(
        node,
        lambda status: (
            set(unreachable) <= set(problems(status))
            and all(problems(status)[code]["next_try_at"] > status["at"] for code in unreachable)
            and status["usage"]["total"]["tokens"] == EARLIER_TOKENS + generated.sent
        ),
    )
    assert status["serving"]
    for code in unreachable:
        assert problems(status)[code]["remedy"]
    agent = status["wallet"]["agent"]
    async with (
        DevChain(port=chain_port, funds={agent: 10**18}) as chain,
        DevOracle(OracleConfig(rpc_url=chain.url), port=oracle_port) as oracle,
    ):
        await node.wait_for("registered")
        async with asyncio.timeout(90):
            while True:
                booked = [view.booked_tokens for view in await oracle.control.agents() if view.agent == agent.lower()]
                if booked == [EARLIER_TOKENS + generated.sent]:
                    break
                await asyncio.sleep(0.2)
        assert await node.stop() == 0
    assert "Traceback" not in node.log_tail()


# The ledger


async def test_a_ledger_that_gets_damaged_ends_the_daemon_and_the_next_start_goes_on(place: Path) -> None:
    node = engineless(place)
    await node.start()
    await seen(node, lambda status: status["engine"]["state"] == "failed")
    state = node.directory / "state"
    damage_beneath(state / "ledger.sqlite")
    assert await node.ended(60) == 1
    log = node.log_tail()
    assert "(ledger-damaged)" in log
    assert "Traceback" not in log

    # As an engine leaves it that served to the end.
    writer = TallyWriter(state / "tally" / "the-last-life" / "handler-0-1.tally")
    writer.write(served(7))
    writer.close()
    async with node:
        status = await seen(node, lambda status: status["usage"]["total"]["tokens"] == 7)
        assert "ledger-damaged" in problems(status)
    assert [kept.suffix for kept in state.glob("ledger.sqlite.damaged-*")] != []
