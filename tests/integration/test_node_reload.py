"""`plumised reload` against a running daemon: all of a new configuration counts, or nothing of it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plumised.cli import main
from plumised.ipc.messages import Counters, Usage
from plumised.ledger import Ledger
from tests.devnet.chain import DevChain
from tests.devnet.client import LanguageModelClient, Request
from tests.devnet.client.process import ENGINE_PYTHON
from tests.devnet.configuration import toml
from tests.devnet.model import make_bloom
from tests.devnet.node import DevNode, key
from tests.devnet.oracle import DevOracle, OracleConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

pytestmark = pytest.mark.timeout(300)

NO_ENGINE = Path("/nonexistent/python")
NOBODY = "http://127.0.0.1:9"
EXIT_OPERATOR = 78
EARLIER_TOKENS = 40
PATIENCE_S = 60.0
BLOCKS = 2
LONG = 40

Capture = pytest.CaptureFixture[str]


def write(node: DevNode, /, **tables: dict[str, object]) -> None:
    """Have node.toml say this beside what it says from the beginning."""
    node.extra = tables
    node.config_file.write_text(toml(node.tables()))


async def plumised(node: DevNode, capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    socket = node.directory / "run" / "control.sock"
    done = await asyncio.to_thread(main, [*arguments, "--socket", str(socket)])
    out = capsys.readouterr()
    return done, out.out, out.err


async def seen(node: DevNode, fits: Callable[[dict[str, Any]], bool], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """The first status that fits."""
    status: dict[str, Any] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while not fits(status := await node.status()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not so in {timeout_s} s: {json.dumps(status)}\n{node.log_tail()}") from None
    return status


async def logged(node: DevNode, words: str) -> str:
    """The first line of the log that has these words."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for line in node.log_file.read_text().splitlines():
                if words in line:
                    return line
            await asyncio.sleep(0.05)


@pytest.fixture
async def node(place: Path) -> AsyncIterator[DevNode]:
    """A node with work to report, whose Oracle and chain do not answer and whose engine cannot be started."""
    made = DevNode(place / "node", place, "0:1", key(0xAA), NOBODY, NOBODY, python=NO_ENGINE)
    made.prepare()
    with closing(Ledger(place / "node" / "state" / "ledger.sqlite", time.time)) as ledger:
        served = Usage(Counters(1, 1, EARLIER_TOKENS, EARLIER_TOKENS), Counters(), Counters())
        ledger.usage.close("an-earlier-life", [("an-earlier-life", "handler-0-1", served)])
    async with made:
        await made.wait_for_control()
        yield made


def configured(status: dict[str, Any]) -> tuple[object, ...]:
    """What a status shows of the configuration."""
    return status["node"]["name"], status["engine"]["model"], status["oracle"]["interval_s"], status["oracle"]["url"]


async def test_an_unchanged_file_changes_nothing(node: DevNode, capsys: Capture) -> None:
    assert await plumised(node, capsys, "reload") == (0, "Nothing has changed\n", "")


async def test_a_bad_file_changes_nothing_and_every_reason_is_told_and_logged(node: DevNode, capsys: Capture) -> None:
    before = configured(await node.status())
    write(node, oracle={"interval_s": 77.0}, log={"levle": "debug"}, engine={"handlers": 0})

    done, out, err = await plumised(node, capsys, "reload")

    assert (done, out) == (EXIT_OPERATOR, "")
    first, second = err.splitlines()
    assert first.startswith(f"plumised: {node.config_file}:")
    assert "engine.handlers is 0, which is out of range. Write a number from 1 to 32." in first
    assert second.endswith("log.levle is not a key. Did you mean log.level?")
    assert configured(await node.status()) == before
    for reason in (first, second):
        await logged(node, reason.removeprefix("plumised: "))


async def test_what_needs_another_start_is_refused_with_all_that_came_with_it(node: DevNode, capsys: Capture) -> None:
    before = configured(await node.status())
    write(node, oracle={"interval_s": 77.0}, metrics={"listen": "127.0.0.1:1"}, chain={"chain_id": 419561})

    done, out, err = await plumised(node, capsys, "reload")

    assert (done, out) == (EXIT_OPERATOR, "")
    assert "(reload-needs-restart)" in err
    assert "chain.chain_id, chain.agent_registry, metrics.listen changed" in err
    assert "systemctl restart plumised" in err
    assert "oracle.interval_s" not in err
    assert configured(await node.status()) == before


async def test_a_wallet_that_a_start_would_refuse_is_told_together_with_the_need_of_one(
    node: DevNode, capsys: Capture
) -> None:
    write(node, wallet={"password_file": str(node.directory / "nowhere")})

    done, _, err = await plumised(node, capsys, "reload")

    assert done == EXIT_OPERATOR
    assert f"{node.directory}/nowhere does not exist (secret-file-missing)" in err
    assert "wallet.password_file changed" in err


async def test_an_engine_that_could_not_be_started_is_refused(node: DevNode, capsys: Capture) -> None:
    write(node, engine={"python": "/nonexistent/other-python", "model": "/nonexistent/model"})

    done, _, err = await plumised(node, capsys, "reload")

    assert done == EXIT_OPERATOR
    python, model = err.splitlines()
    assert "engine.python is /nonexistent/other-python, which cannot be executed." in python
    assert "engine.model is /nonexistent/model, which is no directory." in model
    assert (await node.status())["engine"]["model"] == str(node.directory.parent)


async def test_oracle_and_chain_are_changed_while_they_are_in_use(node: DevNode, capsys: Capture) -> None:
    agent = (await node.status())["wallet"]["agent"]
    async with DevChain(funds={agent: 10**18}) as chain, DevOracle(OracleConfig(rpc_url=chain.url)) as oracle:
        write(
            node,
            node={"name": "renamed"},
            oracle={"url": oracle.url, "interval_s": 1.0, "endpoint": "http://203.0.113.7:31331"},
            chain={"rpc_urls": [chain.url], "heartbeat_when": "always", "heartbeat_interval_s": 6.0},
        )
        done, out, _ = await plumised(node, capsys, "reload", "--json")
        assert done == 0
        assert set(json.loads(out)["live"]) == {
            "node.name",
            "oracle.url",
            "oracle.interval_s",
            "oracle.endpoint",
            "chain.rpc_urls",
            "chain.heartbeat_when",
            "chain.heartbeat_interval_s",
        }
        assert json.loads(out)["engine"] == []

        status = await seen(
            node,
            lambda status: status["chain"]["heartbeats"] >= 1 and status["oracle"]["tokens_reported"] == EARLIER_TOKENS,
        )
        assert configured(status)[0] == "renamed"
        assert (await oracle.control.agent(agent)).booked_tokens == EARLIER_TOKENS
        assert status["node"]["pid"] == node.process.pid


async def test_the_log_follows_its_level_and_form(node: DevNode, capsys: Capture) -> None:
    write(node, log={"level": "error", "format": "json"})
    assert (await plumised(node, capsys, "reload"))[0] == 0
    write(node, log={"level": "loud"})
    assert (await plumised(node, capsys, "reload"))[0] == EXIT_OPERATOR

    told = [json.loads(line) for line in node.log_file.read_text().splitlines() if line.startswith("{")]
    assert [record["level"] for record in told] == ["error"]
    assert "log.level" in told[0]["message"]


async def test_sighup_reloads_and_tells_in_the_log_what_came_of_it(node: DevNode) -> None:
    write(node, oracle={"interval_s": 0.0})
    node.process.send_signal(signal.SIGHUP)
    assert "oracle.interval_s is 0, which is out of range" in await logged(node, "the configuration is not taken")

    write(node, oracle={"interval_s": 33.0})
    node.process.send_signal(signal.SIGHUP)
    await seen(node, lambda status: status["oracle"]["interval_s"] == 33.0)
    assert "Applied oracle.interval_s" in await logged(node, "the configuration was read again")


@pytest.mark.engine
async def test_an_engine_key_drains_and_restarts_the_engine_alone_and_costs_no_count(
    place: Path, capsys: Capture
) -> None:
    model = make_bloom(place / "model", blocks=BLOCKS)
    async with DevChain() as chain, DevOracle(OracleConfig(rpc_url=chain.url)) as oracle:
        # The engine cannot be started at first: what is wrong with it is mended by a reload, too.
        node = DevNode(place / "node", model, f"0:{BLOCKS}", key(0xAA), oracle.url, chain.url, python=NO_ENGINE)
        agent = node.prepare()
        await chain.admin.fund(agent, 10**18)
        async with node:
            await node.wait_for_control()
            await seen(node, lambda status: status["engine"]["state"] == "failed")
            node.python = ENGINE_PYTHON
            write(node)
            done, out, _ = await plumised(node, capsys, "reload")
            assert (done, out) == (0, "Applied engine.python; the engine is started anew\n"), node.log_tail()
            before = await node.wait_for("serving")
            assert before["engine"]["handlers"] == 2

            peers = before["engine"]["addresses"]
            async with LanguageModelClient.swarm(model, "devnet", peers, log=place / "client.log") as client:
                reference = await client.generate(Request(LONG, ids=(5, 6, 7)))
                tokens: asyncio.Queue[int] = asyncio.Queue()
                generation = asyncio.create_task(
                    client.generate(Request(LONG, ids=(5, 6, 7)), on_token=tokens.put_nowait, timeout_s=180)
                )
                async with asyncio.timeout(PATIENCE_S):
                    await tokens.get()

                write(node, engine={"handlers": 1}, oracle={"interval_s": 1.0})
                done, out, err = await plumised(node, capsys, "reload")
                assert (done, err) == (0, ""), node.log_tail()
                assert out == "Applied oracle.interval_s, engine.handlers; the engine is started anew\n"
                status = await node.status()
                assert status["engine"]["incarnation"] != before["engine"]["incarnation"]
                assert status["engine"]["state"] in {"starting", "serving"}
                assert status["node"]["pid"] == before["node"]["pid"] == node.process.pid
                assert status["usage"]["total"]["tokens"] >= reference.received

                after = await generation
                assert after.ids == reference.ids
                status = await node.wait_for("serving")
                assert status["engine"]["handlers"] == 1
                assert after.received <= status["usage"]["total"]["tokens"] <= after.sent
            served = status["usage"]["total"]["tokens"]
            await seen(node, lambda status: status["oracle"]["tokens_reported"] == served)
            assert (await oracle.control.agent(agent)).booked_tokens == served
            assert await node.stop() == 0
    assert "Traceback" not in node.log_tail(100_000)
