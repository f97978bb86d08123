"""The devnet Oracle's faults, its restarts, and its program."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from tests.devnet.oracle import DevOracle, Fault, OracleConfig, OracleProcess

KEY = b"\x46" * 32
AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
NOW = 1_770_000_000
DEADLINE_S = 30.0
METRICS = "/api/v1/metrics/report"
REPORT = "/api/v1/report"


def metrics(tokens: int, timestamp: int) -> bytes:
    text = f'{{"agent":"{AGENT}","processed_tokens":{tokens},"timestamp":{timestamp}}}'
    signature = "0x" + bytes(Account.sign_message(encode_defunct(text=text), KEY).signature).hex()
    body = {
        "wallet": AGENT,
        "tokensProcessed": tokens,
        "avgLatencyMs": 20.5,
        "requestCount": 7,
        "uptimeSeconds": 60,
        "timestamp": timestamp,
        "signature": signature,
    }
    return json.dumps(body).encode()


async def post(url: str, tokens: int, timestamp: int = NOW, path: str = METRICS) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session,
        session.post(
            url + path, data=metrics(tokens, timestamp), headers={"Content-Type": "application/json"}
        ) as response,
    ):
        return response.status, await response.read()


@pytest.fixture
async def oracle() -> AsyncIterator[DevOracle]:
    async with DevOracle(OracleConfig(listed=frozenset({AGENT}), clock=lambda: float(NOW))) as running:
        yield running


async def booked(oracle: DevOracle) -> int:
    return (await oracle.control.agent(AGENT)).booked_tokens


@pytest.mark.parametrize(("when", "left"), [("before", 0), ("after", 100)])
@pytest.mark.parametrize("kind", ["drop", "status", "garbage", "refuse", "error-body", "truncate"])
async def test_a_spoiled_answer_says_nothing_about_the_booking(
    oracle: DevOracle, kind: str, when: str, left: int
) -> None:
    await oracle.control.switch_on(
        Fault.model_validate({"kind": kind, "when": when, "count": 1, "status": 502, "message": "out of order"})
    )
    try:
        status, body = await post(oracle.url, 100)
    except aiohttp.ClientError:
        assert kind in {"drop", "truncate"}
    else:
        assert kind not in {"drop", "truncate"}
        assert (status, b"out of order" in body) == {
            "status": (502, True),
            "garbage": (200 if when == "before" else 201, False),
            "refuse": (502, True),
            "error-body": (200, True),
        }[kind]
    assert await booked(oracle) == left
    assert await oracle.control.faults() == []
    assert (await post(oracle.url, 150, NOW + 1))[0] == 201
    assert await booked(oracle) == 150


async def test_garbage_is_no_json(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="garbage"))
    _, body = await post(oracle.url, 100)
    with pytest.raises(ValueError, match="codec"):
        json.loads(body)


@pytest.mark.parametrize("kind", ["status", "refuse"])
async def test_an_answer_can_ask_to_wait(oracle: DevOracle, kind: Literal["status", "refuse"]) -> None:
    await oracle.control.switch_on(Fault(kind=kind, status=429, retry_after="30"))
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session,
        session.post(oracle.url + METRICS, json={}) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (429, "30")


async def test_the_error_body_of_report_v1_has_a_success_status(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="error-body", message="no"))
    status, body = await post(oracle.url, 100, path=REPORT)
    assert (status, json.loads(body)) == (200, {"status": "error", "message": "no"})


@pytest.mark.parametrize(("when", "left"), [("before", 0), ("booking", 0), ("after", 100)])
async def test_what_hangs_gets_no_answer_when_it_is_let_go(oracle: DevOracle, when: str, left: int) -> None:
    await oracle.control.switch_on(Fault.model_validate({"kind": "hang", "when": when, "count": 1}))
    hanging = asyncio.create_task(post(oracle.url, 100))
    await oracle.control.wait_until_faults_are_used_up(DEADLINE_S)
    assert not hanging.done()
    await oracle.control.clear_faults()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    assert await booked(oracle) == left


@pytest.mark.parametrize("when", ["before", "booking", "after"])
async def test_what_is_delayed_is_answered_in_the_end(oracle: DevOracle, when: str) -> None:
    await oracle.control.switch_on(
        Fault.model_validate({"kind": "delay", "when": when, "count": 1, "seconds": DEADLINE_S})
    )
    delayed = asyncio.create_task(post(oracle.url, 100))
    await oracle.control.wait_until_faults_are_used_up(DEADLINE_S)
    assert await booked(oracle) == (100 if when == "after" else 0)
    await oracle.control.clear_faults()
    assert (await delayed)[0] == 201
    assert await booked(oracle) == 100


async def test_a_report_that_its_sender_gave_up_on_is_booked_late(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="delay", count=1, seconds=DEADLINE_S))
    sending = asyncio.create_task(post(oracle.url, 100))
    await oracle.control.wait_until_faults_are_used_up(DEADLINE_S)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await oracle.control.clear_faults()
    view = await oracle.control.wait_for_agent(AGENT, lambda agent: agent.accepted == 1, DEADLINE_S)
    assert view.booked_tokens == 100


async def test_an_answer_that_is_a_refusal_is_not_lost_after_booking(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="drop", when="after"))
    assert (await post(oracle.url, 100, NOW - 61))[0] == 401


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_message_that_arrives_twice_is_booked_and_answered_as_a_replay(oracle: DevOracle, when: str) -> None:
    await oracle.control.switch_on(Fault.model_validate({"kind": "repeat", "when": when, "count": 1}))
    status, body = await post(oracle.url, 100)
    assert (status, b"Replay detected" in body) == (400, True)
    assert await booked(oracle) == 100


async def test_a_fault_hits_its_endpoint_only(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="status", on="history", status=503))
    assert (await post(oracle.url, 100))[0] == 201
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{oracle.url}/api/v1/metrics/agents/{AGENT}/history") as response,
    ):
        assert response.status == 503


async def test_an_unknown_fault_is_a_mistake_of_the_test(oracle: DevOracle) -> None:
    async with aiohttp.ClientSession() as session:
        for fault in ({"kind": "flood"}, {"kind": "drop", "times": 1}, {"kind": "drop", "when": "booking"}):
            async with session.post(f"{oracle.url}/devnet/faults", json=fault) as response:
                assert response.status == 422


async def test_a_skewed_clock_shows_in_the_date_header(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="skew", seconds=-3600))
    assert (await post(oracle.url, 100))[0] == 401
    assert (await post(oracle.url, 100, NOW - 3600))[0] == 201
    async with aiohttp.ClientSession() as session, session.get(f"{oracle.url}/health") as response:
        assert parsedate_to_datetime(response.headers["Date"]).timestamp() == NOW - 3600


async def test_without_its_rpc_it_knows_no_registration(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="rpc-down", count=1))
    status, body = await post(oracle.url, 100)
    assert (status, json.loads(body)["message"]) == (400, "Agent not registered on-chain")
    assert (await post(oracle.url, 100))[0] == 201


async def test_without_its_database_it_has_an_internal_error(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="database-down", count=1))
    status, body = await post(oracle.url, 100)
    assert (status, json.loads(body)["message"]) == (400, "Internal server error")
    assert await booked(oracle) == 0


async def test_it_closes_a_connection_that_was_idle() -> None:
    async with DevOracle(OracleConfig(keep_alive_s=1)) as oracle:
        host, _, port = oracle.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health HTTP/1.1\r\nHost: oracle\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" not in answer.lower()
        writer.close()


async def test_a_stopped_oracle_refuses_connections_and_comes_back_on_its_port(tmp_path: Path) -> None:
    config = OracleConfig(listed=frozenset({AGENT}), clock=lambda: float(NOW), database=tmp_path / "oracle.sqlite")
    async with DevOracle(config) as oracle:
        url = oracle.url
        assert (await post(url, 100))[0] == 201
        await oracle.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(url, 150, NOW + 1)
        await oracle.start()
        assert oracle.url == url
        assert (await post(url, 150, NOW))[0] == 400
        assert (await post(url, 150, NOW + 1))[0] == 201
        assert await booked(oracle) == 150


async def test_an_old_database_has_forgotten_what_came_after_its_copy(tmp_path: Path) -> None:
    database, copy = tmp_path / "oracle.sqlite", tmp_path / "copy.sqlite"
    config = OracleConfig(listed=frozenset({AGENT}), clock=lambda: float(NOW), database=database)
    async with DevOracle(config) as oracle:
        await post(oracle.url, 100)
        copy.write_bytes(database.read_bytes())
        await post(oracle.url, 150, NOW + 1)
        await oracle.stop()
        copy.replace(database)
        await oracle.start()
        assert (await oracle.control.agent(AGENT)).last_timestamp == NOW
        assert await booked(oracle) == 100


async def test_without_a_database_a_restart_forgets_everything(oracle: DevOracle) -> None:
    await post(oracle.url, 100)
    await oracle.stop()
    await oracle.start()
    assert await oracle.control.agents() == []


async def test_an_oracle_with_a_hanging_message_stops(oracle: DevOracle) -> None:
    await oracle.control.switch_on(Fault(kind="hang", count=1))
    hanging = asyncio.create_task(post(oracle.url, 100))
    await oracle.control.wait_until_faults_are_used_up(DEADLINE_S)
    await oracle.stop()
    with pytest.raises(aiohttp.ClientError):
        await hanging


async def test_a_taken_port_is_said(unused_tcp_port: int) -> None:
    async with DevOracle(port=unused_tcp_port):
        with pytest.raises(OSError, match="in use"):
            await DevOracle(port=unused_tcp_port).start()


# The program


async def test_a_killed_program_keeps_what_it_had_accepted(tmp_path: Path) -> None:
    now = int(time.time())
    async with OracleProcess(database=tmp_path / "oracle.sqlite") as oracle:
        url = oracle.url
        await oracle.control.list_agent(AGENT)
        assert (await post(url, 100, now))[0] == 201
        await oracle.kill()
        with pytest.raises(aiohttp.ClientConnectorError):
            await post(url, 150, now + 1)
        await oracle.start()
        assert oracle.url == url
        assert (await oracle.control.agent(AGENT)).booked_tokens == 100


async def test_the_program_ends_in_order_on_a_signal() -> None:
    oracle = OracleProcess(dialects=frozenset({"report-v1"}))
    await oracle.start()
    try:
        assert (await post(oracle.url, 100))[0] == 404
        assert await oracle.stop() == 0
    finally:
        await oracle.kill()


async def test_the_program_refuses_a_dialect_that_does_not_exist() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.devnet.oracle", "--dialects", "report-v2"),
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 2
    assert b"report-v2" in errors
