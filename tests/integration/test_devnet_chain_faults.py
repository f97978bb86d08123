"""The devnet's chain fails the way a test asks it to, in the way a client sees it; and it runs as a program."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.devnet.chain import Admin, AdminError, DevChain, FaultMode, MiningMode
from tests.integration.chain_wallet import ALICE, ONE_PLM, Wallet, connected, precompile, registration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import JsonValue

PATIENCE_S = 20.0
ROOT = Path(__file__).parents[2]
SINK = "0x000000000000000000000000000000000000dEaD"


class Client:
    """Posts JSON-RPC without anything in between."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def post(self, body: JsonValue | str, content_type: str = "application/json") -> tuple[int, str]:
        text = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.post(self.url, data=text, headers=headers) as response:
            return response.status, await response.text()

    async def ask(self, method: str, *params: JsonValue) -> Mapping[str, JsonValue]:
        status, text = await self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        assert status == 200
        answer: dict[str, JsonValue] = json.loads(text)
        assert (answer.pop("id"), answer.pop("jsonrpc")) == (7, "2.0")
        return answer


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        yield Client(url, session)


@pytest.fixture
async def chain() -> AsyncIterator[DevChain]:
    async with DevChain(funds={ALICE.address: ONE_PLM}) as running:
        yield running


@pytest.fixture
async def client(chain: DevChain) -> AsyncIterator[Client]:
    async with client_of(chain.url) as connected_client:
        yield connected_client


@pytest.fixture
async def alice(chain: DevChain) -> AsyncIterator[Wallet]:
    async with connected(chain.url) as web3:
        yield Wallet(web3, ALICE)


# JSON-RPC over HTTP


async def test_a_batch_is_answered_in_order(client: Client) -> None:
    calls: JsonValue = [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"},
        {"jsonrpc": "2.0", "id": "two", "method": "eth_nothing", "params": []},
        {"jsonrpc": "2.0", "id": 3, "method": "eth_blockNumber", "params": []},
    ]
    status, text = await client.post(calls)

    assert status == 200
    answers = json.loads(text)
    assert [answer["id"] for answer in answers] == [1, "two", 3]
    assert [answer.get("result") for answer in answers] == ["0xa3e4", None, "0x0"]
    assert answers[1]["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("body", "code"),
    [("{", -32700), ("[]", -32600), ("[1]", -32600), ("7", -32600), ('{"id":1}', -32600)],
)
async def test_what_is_no_call_gets_an_error(client: Client, body: str, code: int) -> None:
    status, text = await client.post(body)
    answer = json.loads(text)

    assert status == 200
    assert (answer[0] if isinstance(answer, list) else answer)["error"]["code"] == code


async def test_another_content_type_is_refused(client: Client) -> None:
    status, _ = await client.post("{}", content_type="text/plain")

    assert status == 415


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBalance", []),
        ("eth_getBalance", ["0x12", "latest"]),
        ("eth_getTransactionReceipt", ["0x12"]),
        ("eth_call", [{"to": SINK, "surprise": 1}, "latest"]),
        ("eth_getBlockByNumber", ["yesterday", False]),
        ("agent_isAgentAccount", [SINK, "latest", 3]),
    ],
)
async def test_wrong_parameters_are_told(client: Client, method: str, params: list[JsonValue]) -> None:
    error = (await client.ask(method, *params))["error"]

    assert isinstance(error, dict)
    assert error["code"] == -32602


async def test_a_block_that_is_not_there_is_null_and_its_state_an_error(client: Client) -> None:
    assert (await client.ask("eth_getBlockByNumber", "0x9", False))["result"] is None
    assert (await client.ask("eth_getBalance", SINK, "0x9"))["error"] == {"code": -32000, "message": "header not found"}


# Faults


@pytest.mark.parametrize(("mode", "status"), [(FaultMode.STATUS_500, 500), (FaultMode.STATUS_429, 429)])
async def test_an_http_error_lasts_for_its_count(chain: DevChain, client: Client, mode: FaultMode, status: int) -> None:
    await chain.admin.fault(mode, count=2)
    call: JsonValue = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}

    assert [(await client.post(call))[0] for _ in range(3)] == [status, status, 200]
    assert await chain.admin.faults() == ()


async def test_garbage_is_no_json(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.GARBAGE, count=1)

    with pytest.raises(json.JSONDecodeError):
        await client.ask("eth_chainId")


async def test_a_fault_strikes_its_methods_only(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.ERROR, "eth_gasPrice", code=-32005, message="limit exceeded")

    assert (await client.ask("eth_chainId"))["result"] == "0xa3e4"
    assert (await client.ask("eth_gasPrice"))["error"] == {"code": -32005, "message": "limit exceeded"}


async def test_a_node_can_lie(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.ANSWER, "eth_getTransactionCount", result="0x2a")

    assert (await client.ask("eth_getTransactionCount", ALICE.address, "latest"))["result"] == "0x2a"


async def test_a_dropped_request_is_not_done(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.fault(FaultMode.DROP, "eth_sendRawTransaction", count=1)

    with pytest.raises(aiohttp.ClientError):
        await alice.send(SINK)
    assert await chain.admin.transactions() == ()


async def test_a_request_whose_reply_is_lost_is_done(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.fault(FaultMode.LOSE_REPLY, "eth_sendRawTransaction", count=1)

    with pytest.raises(aiohttp.ClientError):
        await alice.send(SINK)
    assert [mined.sender for mined in await chain.admin.transactions()] == [ALICE.address]


async def test_a_hanging_request_ends_with_the_fault(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.HANG)
    asking = asyncio.create_task(client.ask("eth_chainId"))
    await chain.admin.wait_for(lambda: chain.admin.calls("eth_chainId"))
    assert not asking.done()

    await chain.admin.clear_faults()

    with pytest.raises(aiohttp.ClientError):
        await asking
    assert (await client.ask("eth_chainId"))["result"] == "0xa3e4"


async def test_a_delayed_answer_comes_at_once_when_the_fault_is_cleared(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.DELAY, delay_s=3600)
    asking = asyncio.create_task(client.ask("eth_chainId"))
    await chain.admin.wait_for(lambda: chain.admin.calls("eth_chainId"))
    assert not asking.done()

    await chain.admin.clear_faults()

    assert (await asking)["result"] == "0xa3e4"


async def test_refusing_closes_the_port_and_open_connections(chain: DevChain, client: Client) -> None:
    await client.ask("eth_chainId")
    await chain.admin.fault(FaultMode.REFUSE)

    with pytest.raises(aiohttp.ClientOSError):
        await client.ask("eth_chainId")
    async with client_of(chain.url) as another:
        with pytest.raises(aiohttp.ClientConnectorError):
            await another.ask("eth_chainId")
    await chain.admin.clear_faults()
    assert (await client.ask("eth_chainId"))["result"] == "0xa3e4"


async def test_the_port_stays_the_nodes_own_while_it_refuses(chain: DevChain) -> None:
    await chain.admin.fault(FaultMode.REFUSE)
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", int(chain.url.rpartition(":")[2])))


async def test_a_fault_can_end_by_itself(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.REFUSE, for_s=0.05)

    async def faults_are_gone() -> bool:
        return await chain.admin.faults() == ()

    await chain.admin.wait_for(faults_are_gone)
    assert (await client.ask("eth_chainId"))["result"] == "0xa3e4"


async def test_another_chain_id_can_be_told(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.WRONG_CHAIN_ID, chain_id=419561)

    assert (await client.ask("eth_chainId"))["result"] == hex(419561)
    assert (await client.ask("net_version"))["result"] == "419561"


async def test_a_plain_node_has_no_agent_methods(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.NO_AGENT_METHODS)

    assert (await client.ask("agent_isAgentAccount", ALICE.address, "latest"))["error"] == {
        "code": -32601,
        "message": "the method agent_isAgentAccount does not exist/is not available",
    }


async def test_a_stale_node_sees_nothing_of_what_came_after(chain: DevChain, client: Client, alice: Wallet) -> None:
    await chain.admin.mine(2)
    await chain.admin.fault(FaultMode.STALE, blocks_behind=1)
    sent = await alice.send(precompile(0x21), registration(), nonce=0)

    assert (await client.ask("eth_blockNumber"))["result"] == "0x1"
    assert (await client.ask("eth_getBlockByNumber", "0x3", False))["result"] is None
    assert (await client.ask("eth_getTransactionReceipt", sent.to_0x_hex()))["result"] is None
    assert (await client.ask("eth_getTransactionCount", ALICE.address, "pending"))["result"] == "0x0"
    assert (await client.ask("agent_isAgentAccount", ALICE.address, "latest"))["result"] is False

    await chain.admin.clear_faults()
    assert (await client.ask("agent_isAgentAccount", ALICE.address, "latest"))["result"] is True


async def test_calls_are_remembered_with_the_faults_that_struck_them(chain: DevChain, client: Client) -> None:
    await chain.admin.fault(FaultMode.STATUS_500, count=1)
    await client.post({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"})
    await client.ask("eth_getBalance", SINK, "latest")

    calls = await chain.admin.calls()
    assert [(call.method, call.faults) for call in calls] == [
        ("eth_chainId", (FaultMode.STATUS_500,)),
        ("eth_getBalance", ()),
    ]
    assert calls[1].params == [SINK, "latest"]
    await chain.admin.forget_calls()
    assert await chain.admin.calls() == ()


async def test_the_admin_port_refuses_what_it_does_not_know(chain: DevChain) -> None:
    with pytest.raises(AdminError, match="cannot replace 5 of 0 blocks"):
        await chain.admin.reorganise(5)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{chain.admin_url}/devnet/faults", json={"mode": "delay", "speed": 1}) as response,
    ):
        assert response.status == 400


async def test_waiting_for_what_does_not_come_ends(chain: DevChain) -> None:
    with pytest.raises(AdminError, match="not so within"):
        await chain.admin.wait_for(chain.admin.agents, patience_s=0.05)


# The program


@asynccontextmanager
async def program(port_file: Path, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.devnet.chain", "--port-file", str(port_file), *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ports_in(port_file: Path, process: asyncio.subprocess.Process) -> tuple[int, int]:
    """Wait for the line that the program prints once its port file is there, and read that."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        assert (await process.stdout.readline()).startswith(b"chain at http://127.0.0.1:")
    rpc, admin = (await asyncio.to_thread(port_file.read_text)).split()
    return int(rpc), int(admin)


async def test_the_program_serves_and_ends_in_order(tmp_path: Path) -> None:
    port_file = tmp_path / "ports"
    options = ("--listen", "127.0.0.1:0", "--fund", f"{ALICE.address}=5", "--block-time", "0.05", "--base-fee", "9")
    async with program(port_file, *options) as process:
        rpc_port, admin_port = await ports_in(port_file, process)
        async with (
            client_of(f"http://127.0.0.1:{rpc_port}") as client,
            Admin(f"http://127.0.0.1:{admin_port}") as admin,
        ):
            assert (await client.ask("eth_getBalance", ALICE.address, "latest"))["result"] == "0x5"
            assert (await client.ask("eth_gasPrice"))["result"] == "0x9"
            status = await admin.wait_for(admin.status, lambda seen: seen.height >= 2)
            assert status.mining.mode is MiningMode.INTERVAL
            await admin.fault(FaultMode.HANG)
            hanging = asyncio.create_task(client.ask("eth_chainId"))
            await admin.wait_for(lambda: admin.calls("eth_chainId"))

            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(aiohttp.ClientError):
                    await hanging
                _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")


async def test_the_program_says_what_is_wrong_with_its_arguments(tmp_path: Path) -> None:
    async with program(tmp_path / "ports", "--fund", "nobody=much") as process:
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
        assert process.returncode == 2
        assert b"'nobody=much' is not ADDRESS=WEI" in errors


async def test_the_program_says_that_its_port_is_taken(chain: DevChain, tmp_path: Path) -> None:
    async with program(tmp_path / "ports", "--listen", chain.url.removeprefix("http://")) as process:
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await process.communicate()
        assert process.returncode == 1
        assert errors.startswith(b"cannot listen: ")
        assert errors.count(b"\n") == 1


async def test_two_chains_live_side_by_side(chain: DevChain) -> None:
    async with DevChain() as other:
        await other.admin.mine(3)
        assert (await other.admin.status()).height == 3
        assert (await chain.admin.status()).height == 0


async def test_a_port_that_is_taken_is_told_at_the_start(chain: DevChain) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        async with DevChain(port=int(chain.url.rpartition(":")[2])):
            pass
