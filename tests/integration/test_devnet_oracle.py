"""The devnet Oracle's two dialects: what it takes, books and refuses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from tests.devnet.chain import DevChain
from tests.devnet.oracle import DevOracle, Fault, OracleConfig
from tests.devnet.oracle import booking as books
from tests.devnet.oracle.report import Dialect, Report

KEY = b"\x46" * 32
AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
OTHER_KEY = b"\xaa" * 32
NOW = 1_770_000_000
DEADLINE_S = 30.0

METRICS = "/api/v1/metrics/report"
REPORT = "/api/v1/report"
REGISTER = "/api/nodes/register"

Body = dict[str, object]


def sign(text: str, key: bytes = KEY) -> str:
    return "0x" + bytes(Account.sign_message(encode_defunct(text=text), key).signature).hex()


def metrics(tokens: int = 12345, timestamp: int = NOW, key: bytes = KEY, **changed: object) -> Body:
    wallet = str(changed.get("wallet", Account.from_key(key).address))
    text = f'{{"agent":"{wallet}","processed_tokens":{tokens},"timestamp":{timestamp}}}'
    return {
        "wallet": wallet,
        "tokensProcessed": tokens,
        "avgLatencyMs": 20.5,
        "requestCount": 7,
        "uptimeSeconds": 60,
        "timestamp": timestamp,
        "signature": sign(text, key),
        **changed,
    }


def proof(number: int = 1, **changed: object) -> Body:
    digest = f"0x{number:064x}"
    return {"modelHash": digest, "inputHash": digest, "outputHash": digest, "tokenCount": 50, **changed}


def report_v1(tokens: int = 300, timestamp: int = NOW, **changed: object) -> Body:
    payload = {
        "agent": AGENT,
        "processed_tokens": tokens,
        "avg_latency_ms": 100.0,
        "uptime_seconds": 42,
        "tasks_completed": 2,
        "timestamp": timestamp,
        **changed,
    }
    return {"payload": payload, "signature": sign(json.dumps(payload, sort_keys=True, separators=(",", ":")))}


def announcement(**changed: object) -> Body:
    fields = {
        "address": AGENT,
        "endpoint": "http://203.0.113.7:31331",
        "capabilities": ["inference", "bigscience/bloom-560m"],
        "timestamp": NOW,
        **{name: value for name, value in changed.items() if name != "signature"},
    }
    signed = {name: fields[name] for name in ("address", "endpoint", "capabilities", "timestamp")}
    text = json.dumps(signed, separators=(",", ":"), ensure_ascii=False)
    return {**fields, "signature": changed.get("signature", sign(text))}


@dataclass(frozen=True)
class Answer:
    status: int
    body: Body
    date: str

    @property
    def message(self) -> object:
        return self.body["message"]


@dataclass(frozen=True)
class Desk:
    """An Oracle whose clock stands at NOW, and a client of it."""

    oracle: DevOracle
    session: aiohttp.ClientSession

    async def post(self, path: str, body: Body | str) -> Answer:
        text = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        async with self.session.post(self.oracle.url + path, data=text, headers=headers) as response:
            return Answer(response.status, await response.json(), response.headers["Date"])

    async def get(self, path: str) -> Answer:
        async with self.session.get(self.oracle.url + path) as response:
            return Answer(response.status, await response.json(), response.headers["Date"])

    async def booked(self) -> int:
        return (await self.oracle.control.agent(AGENT)).booked_tokens


@asynccontextmanager
async def desk_of(config: OracleConfig) -> AsyncIterator[Desk]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with (
        DevOracle(config) as oracle,
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session,
    ):
        yield Desk(oracle, session)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with desk_of(OracleConfig(listed=frozenset({AGENT}), clock=lambda: float(NOW))) as opened:
        yield opened


# The vectors of wire-formats


async def test_the_golden_vector_of_metrics_v1_is_accepted(desk: Desk) -> None:
    answer = await desk.post(
        METRICS,
        metrics(
            signature="0x961fdd56cbdafcc90358b20850af35a3c75f0a5573e8b89bb8baa8693e9a6f33"
            "389d1bc60cff55427cffc138fc4a649d523638e3b4ef508f9d312d43fbd1f5941c"
        ),
    )
    assert answer.status == 201
    assert answer.body["success"] is True
    assert isinstance(answer.body["shouldReset"], bool)
    assert await desk.booked() == 12345


async def test_the_golden_vector_of_report_v1_is_accepted(desk: Desk) -> None:
    body = report_v1() | {
        "signature": "0x5f2b002945fb8672862de88913ac208e18fff324684daa7cfe4ba4711e7fc8b8"
        "27be51624aacad10923273a097386b7faa47c6c841397054510300fc1524c3da1c"
    }
    answer = await desk.post(REPORT, body)
    assert answer.status == 200
    assert answer.body["status"] == "ok"
    assert await desk.booked() == 300


async def test_the_golden_vector_of_registration_is_accepted(desk: Desk) -> None:
    answer = await desk.post(
        REGISTER,
        announcement(
            signature="0xb9bbbb4082b6e367a70169f1cb097d7ea79c9c67ac21bbfedec3b486658e49a6"
            "16ba8596cf49f7703a435170f91600759839b54bb89dfd9ff9e9a4f96ee393e11c"
        ),
    )
    assert answer.status == 201
    [registration] = await desk.oracle.control.registrations(AGENT)
    assert registration.capabilities == ("inference", "bigscience/bloom-560m")
    assert not registration.sponsored


# metrics-v1: what is refused


@pytest.mark.parametrize("name", ["agentAddress", "proofHash", "nonce"])
async def test_an_unknown_field_refuses_the_whole_report(desk: Desk, name: str) -> None:
    answer = await desk.post(METRICS, metrics() | {name: "0x00"})
    assert (answer.status, answer.message) == (400, [f"property {name} should not exist"])
    assert await desk.booked() == 0


@pytest.mark.parametrize("name", ["agentAddress", "proofHash"])
async def test_an_unknown_field_in_one_proof_refuses_the_whole_report(desk: Desk, name: str) -> None:
    answer = await desk.post(METRICS, metrics(proofs=[proof(1), proof(2, **{name: "0x00"})]))
    assert (answer.status, answer.message) == (400, [f"proofs.1.property {name} should not exist"])
    assert await desk.booked() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wallet", "9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"),
        ("tokensProcessed", "12345"),
        ("tokensProcessed", -1),
        ("tokensProcessed", 1.5),
        ("tokensProcessed", True),
        ("avgLatencyMs", None),
        ("avgLatencyMs", -0.5),
        ("requestCount", 1.5),
        ("uptimeSeconds", "60"),
        ("timestamp", 1770000000.5),
        ("signature", None),
        ("proofs", {}),
        ("proofs", ["0x"]),
        ("proofs", [proof(tokenCount=0)]),
        ("proofs", [proof(tokenCount="50")]),
        ("proofs", [proof(modelHash="0x12")]),
        ("proofs", [proof(outputHash="aa" * 32)]),
    ],
)
async def test_a_field_of_the_wrong_kind_is_named_in_a_list(desk: Desk, field: str, value: object) -> None:
    answer = await desk.post(METRICS, metrics() | {field: value})
    assert answer.status == 400
    assert isinstance(answer.message, list)
    assert field in answer.message[0]


@pytest.mark.parametrize("field", sorted(set(metrics())))
async def test_every_field_but_the_proofs_is_required(desk: Desk, field: str) -> None:
    body = metrics()
    del body[field]
    answer = await desk.post(METRICS, body)
    assert answer.status == 400
    assert isinstance(answer.message, list)


@pytest.mark.parametrize("off_s", [-60, 60])
async def test_a_timestamp_one_minute_off_is_accepted(desk: Desk, off_s: int) -> None:
    assert (await desk.post(METRICS, metrics(timestamp=NOW + off_s))).status == 201


@pytest.mark.parametrize("off_s", [-61, 61, -(10**6)])
async def test_a_timestamp_further_off_is_an_invalid_signature(desk: Desk, off_s: int) -> None:
    answer = await desk.post(METRICS, metrics(timestamp=NOW + off_s))
    assert (answer.status, answer.message) == (401, "Invalid signature")


SPOILED: dict[str, Callable[[Body], Body]] = {
    "without 0x": lambda body: body | {"signature": str(body["signature"])[2:]},
    "of another key": lambda body: body | {"signature": metrics(key=OTHER_KEY, wallet=AGENT)["signature"]},
    "for another count": lambda body: body | {"tokensProcessed": 12346},
    "for another time": lambda body: body | {"timestamp": NOW + 1},
    "for the wallet in another case": lambda body: body | {"wallet": AGENT.lower()},
    "with a short end": lambda body: body | {"signature": str(body["signature"])[:-2]},
    "with recovery value 1": lambda body: body | {"signature": str(body["signature"])[:-2] + "01"},
    "that is no hex": lambda body: body | {"signature": "0x" + "zz" * 65},
    "of zeros": lambda body: body | {"signature": "0x" + "00" * 64 + "1b"},
    "with spaces in the text": lambda body: (
        body | {"signature": sign(f'{{"agent": "{AGENT}", "processed_tokens": 12345, "timestamp": {NOW}}}')}
    ),
}


@pytest.mark.parametrize("spoiled", SPOILED)
async def test_a_signature_is_invalid_that_is(desk: Desk, spoiled: str) -> None:
    answer = await desk.post(METRICS, SPOILED[spoiled](metrics()))
    assert (answer.status, answer.message) == (401, "Invalid signature")
    assert await desk.booked() == 0


@pytest.mark.parametrize("literal", ["2010.0", "2010e0"])
@pytest.mark.parametrize("signed", ["2010", "2010.0"])
async def test_tokens_are_an_integer_literal(desk: Desk, literal: str, signed: str) -> None:
    signature = sign(f'{{"agent":"{AGENT}","processed_tokens":{signed},"timestamp":{NOW}}}')
    text = json.dumps(metrics(tokens=777777, signature=signature)).replace("777777", literal)
    answer = await desk.post(METRICS, text)
    assert (answer.status, answer.message) == (401, "Invalid signature")


async def test_the_wallet_counts_in_any_case_if_it_is_signed_as_sent(desk: Desk) -> None:
    assert (await desk.post(METRICS, metrics(100, wallet=AGENT.lower()))).status == 201
    assert (await desk.post(METRICS, metrics(150, NOW + 1))).status == 201
    assert await desk.booked() == 150


@pytest.mark.parametrize("timestamp", [NOW, NOW - 1])
async def test_a_timestamp_that_is_not_above_the_last_accepted_one_is_a_replay(desk: Desk, timestamp: int) -> None:
    assert (await desk.post(METRICS, metrics())).status == 201
    answer = await desk.post(METRICS, metrics(20000, timestamp))
    assert (answer.status, answer.message) == (400, "Replay detected: timestamp must be strictly increasing")
    assert await desk.booked() == 12345


async def test_a_refused_report_does_not_use_its_timestamp_up(desk: Desk) -> None:
    assert (await desk.post(METRICS, metrics(nonce=1))).status == 400
    assert (await desk.post(METRICS, metrics())).status == 201


async def test_an_unregistered_wallet_is_refused(desk: Desk) -> None:
    answer = await desk.post(METRICS, metrics(key=OTHER_KEY))
    assert (answer.status, answer.message) == (400, "Agent not registered on-chain")


@pytest.mark.parametrize(("field", "limit"), [("requestCount", 2**31), ("uptimeSeconds", 2**31)])
async def test_a_number_that_no_column_holds_is_an_internal_error(desk: Desk, field: str, limit: int) -> None:
    answer = await desk.post(METRICS, metrics() | {field: limit})
    assert (answer.status, answer.message) == (400, "Internal server error")
    assert (await desk.post(METRICS, metrics() | {field: limit - 1})).status == 201


async def test_the_cap_is_on_the_cumulative_value(desk: Desk) -> None:
    assert (await desk.post(METRICS, metrics(10**9))).status == 201
    answer = await desk.post(METRICS, metrics(10**9 + 1, NOW + 1))
    assert (answer.status, answer.message) == (400, "Token count exceeds maximum allowed")
    assert (await desk.post(METRICS, metrics(5, NOW + 1))).status == 201
    assert await desk.booked() == 10**9 + 5


@pytest.mark.parametrize("size", [100_001, 3_000_000])
async def test_a_body_above_a_hundred_kilobytes_is_too_large(desk: Desk, size: int) -> None:
    text = json.dumps(metrics())
    answer = await desk.post(METRICS, text + " " * (size - len(text)))
    assert answer.status == 413
    assert (await desk.post(METRICS, text + " " * (100_000 - len(text)))).status == 201


async def test_about_380_compact_proofs_fit(desk: Desk) -> None:
    def text(count: int) -> str:
        return json.dumps(metrics(proofs=[proof(number) for number in range(count)]), separators=(",", ":"))

    assert (await desk.post(METRICS, text(400))).status == 413
    assert (await desk.post(METRICS, text(375))).status == 201
    assert len(await desk.oracle.control.proofs(AGENT)) == 375


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', '{"wallet": NaN}', "\udcff", "[" * 20000])
async def test_a_body_that_is_no_json_object_is_refused(desk: Desk, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    raw = text.encode("utf-8", errors="surrogateescape")
    async with desk.session.post(desk.oracle.url + METRICS, data=raw, headers=headers) as response:
        assert response.status == 400


async def test_a_body_that_is_not_declared_as_json_is_not_read(desk: Desk) -> None:
    headers = {"Content-Type": "text/plain"}
    async with desk.session.post(desk.oracle.url + METRICS, data=json.dumps(metrics()), headers=headers) as response:
        assert response.status == 400
        assert len((await response.json())["message"]) == len(metrics())


# metrics-v1: what is booked


async def test_the_difference_to_the_last_value_is_booked(desk: Desk) -> None:
    for second, tokens in enumerate([100, 100, 250]):
        assert (await desk.post(METRICS, metrics(tokens, NOW + second, requestCount=tokens // 50))).status == 201
    view = await desk.oracle.control.agent(AGENT)
    assert (view.booked_tokens, view.booked_requests, view.accepted, view.restarts) == (250, 5, 3, 0)
    assert [report.booked for report in await desk.oracle.control.reports(AGENT)] == [100, 0, 150]


async def test_a_lower_value_is_a_restart_and_booked_in_full(desk: Desk) -> None:
    await desk.post(METRICS, metrics(100))
    await desk.post(METRICS, metrics(40, NOW + 1))
    view = await desk.oracle.control.agent(AGENT)
    assert (view.booked_tokens, view.restarts, view.last_tokens) == (140, 1, 40)


async def test_after_a_restart_that_overtook_the_old_value_only_the_difference_is_booked(desk: Desk) -> None:
    await desk.post(METRICS, metrics(100))
    await desk.post(METRICS, metrics(130, NOW + 1))
    assert await desk.booked() == 130


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_whatever_the_counter_does_the_sum_is_of_its_rises_and_restarts(values: list[int]) -> None:
    account = books.Account("0x")
    for second, value in enumerate(values, start=1):
        report = Report("metrics-v1", "0x", value, 0, 0.0, 0, second)
        books.check_sequence(account, report)
        account = books.book(account, account, report)
    pairs = list(zip([0, *values], values, strict=False))
    assert account.booked_tokens == sum(new - old if new >= old else new for old, new in pairs)
    assert account.restarts == sum(new < old for old, new in pairs)


async def test_proofs_are_inserted_again_when_they_are_sent_again(desk: Desk) -> None:
    await desk.post(METRICS, metrics(100, proofs=[proof(1)]))
    await desk.post(METRICS, metrics(100, NOW + 1, proofs=[proof(1), proof(2)]))
    assert await desk.booked() == 100
    stored = await desk.oracle.control.proofs(AGENT)
    assert [(row.input_hash[-1], row.report, row.token_count) for row in stored] == [
        ("1", NOW, 50),
        ("1", NOW + 1, 50),
        ("2", NOW + 1, 50),
    ]


async def test_of_two_identical_bodies_at_once_both_are_accepted_and_counts_are_lost(desk: Desk) -> None:
    control = desk.oracle.control
    await control.switch_on(Fault(kind="delay", when="booking", seconds=DEADLINE_S, count=2))
    async with asyncio.TaskGroup() as group:
        both = [group.create_task(desk.post(METRICS, metrics(100, proofs=[proof(1)]))) for _ in range(2)]
        await control.wait_until_faults_are_used_up(DEADLINE_S)
        await control.clear_faults()
    assert [task.result().status for task in both] == [201, 201]
    assert await desk.booked() < 100
    assert len(await control.proofs(AGENT)) == 2


async def test_history_tells_the_timestamp_of_the_last_accepted_report(desk: Desk) -> None:
    path = f"/api/v1/metrics/agents/{AGENT}/history"
    assert (await desk.get(f"{path}?limit=1")).body["metrics"] == []
    for second in range(3):
        await desk.post(METRICS, metrics(100 + second, NOW + second))
    await desk.post(METRICS, metrics(1, NOW + 3, nonce=1))
    last = (await desk.get(f"{path}?limit=1")).body["metrics"]
    assert isinstance(last, list)
    assert [(row["lastUpdated"], row["tokensProcessed"]) for row in last] == [(NOW + 2, 102)]
    every = (await desk.get(path.replace(AGENT, AGENT.lower()))).body["metrics"]
    assert isinstance(every, list)
    assert [row["lastUpdated"] for row in every] == [NOW + 2, NOW + 1, NOW]


@pytest.mark.parametrize("path", [f"{AGENT}/history?limit=x", f"{AGENT}/history?limit=0", "0x12/history"])
async def test_a_history_of_nothing_sensible_is_refused(desk: Desk, path: str) -> None:
    assert (await desk.get(f"/api/v1/metrics/agents/{path}")).status == 400


# report-v1


async def test_report_v1_books_differences_too(desk: Desk) -> None:
    await desk.post(REPORT, report_v1(300))
    await desk.post(REPORT, report_v1(450, NOW + 1))
    assert await desk.booked() == 450


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (report_v1(nonce=1), 400),
        (report_v1() | {"nonce": 1}, 400),
        ({"payload": [], "signature": "0x"}, 400),
        (report_v1(-5), 400),
        (report_v1(timestamp=NOW - 61), 401),
        (report_v1() | {"signature": sign(json.dumps(report_v1()["payload"]))}, 401),
        (report_v1() | {"signature": str(report_v1()["signature"])[2:]}, 401),
        (report_v1(agent=Account.from_key(OTHER_KEY).address), 401),
        (report_v1(uptime_seconds=42.0), 401),
    ],
)
async def test_a_refusal_of_report_v1_has_the_status_error(desk: Desk, body: Body, status: int) -> None:
    answer = await desk.post(REPORT, body)
    assert (answer.status, answer.body["status"]) == (status, "error")
    assert await desk.booked() == 0


async def test_report_v1_refuses_a_replay(desk: Desk) -> None:
    await desk.post(REPORT, report_v1())
    answer = await desk.post(REPORT, report_v1(400))
    assert (answer.status, answer.body["status"]) == (400, "error")
    assert await desk.booked() == 300


@pytest.mark.parametrize(
    ("dialect", "found", "missing"), [("report-v1", REPORT, METRICS), ("metrics-v1", METRICS, REPORT)]
)
async def test_a_dialect_that_is_not_spoken_is_not_found(dialect: Dialect, found: str, missing: str) -> None:
    config = OracleConfig(dialects=frozenset({dialect}))
    async with desk_of(config) as desk:
        assert (await desk.post(missing, {})).status == 404
        assert (await desk.post(found, {})).status == 400
        history = await desk.get(f"/api/v1/metrics/agents/{AGENT}/history?limit=1")
        assert history.status == (200 if dialect == "metrics-v1" else 404)
        assert (await desk.get("/health")).status == 200


# Registration


async def test_an_unregistered_wallet_is_registered_at_the_oracle_s_cost() -> None:
    async with desk_of(OracleConfig(clock=lambda: float(NOW))) as desk:
        assert (await desk.post(METRICS, metrics())).status == 400
        assert (await desk.post(REGISTER, announcement())).status == 201
        assert (await desk.post(REGISTER, announcement(timestamp=NOW + 1))).status == 201
        assert (await desk.post(METRICS, metrics())).status == 201
        rows = await desk.oracle.control.registrations(AGENT)
        assert [row.sponsored for row in rows] == [True, False]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://203.0.113.7:31331",
        "http://127.0.0.1:31331",
        "https://node.example.org",
        "http://[2001:db8::7]:31331",
        "http://a.b",
    ],
)
async def test_the_endpoint_s_host_is_an_address_or_has_a_dot(desk: Desk, endpoint: str) -> None:
    assert (await desk.post(REGISTER, announcement(endpoint=endpoint))).status == 201


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:31331",
        "http://node",
        "203.0.113.7:31331",
        "ftp://203.0.113.7",
        "http://",
        "http://node.example.org:x",
        "http://.org",
        "http://node.",
        7,
    ],
)
async def test_another_endpoint_is_refused(desk: Desk, endpoint: object) -> None:
    answer = await desk.post(REGISTER, announcement(endpoint=endpoint))
    assert (answer.status, answer.message) == (400, ["endpoint must be a URL address"])


async def test_the_announcement_is_signed_in_the_order_in_which_it_is_described(desk: Desk) -> None:
    fields = {name: value for name, value in announcement().items() if name != "signature"}
    in_alphabetical_order = sign(json.dumps(fields, sort_keys=True, separators=(",", ":")))
    answer = await desk.post(REGISTER, announcement(signature=in_alphabetical_order))
    assert (answer.status, answer.message) == (401, "Invalid signature")


async def test_benchmark_address_and_distribution_are_optional_and_not_signed(desk: Desk) -> None:
    body = announcement(benchmarkTokPerSec=12.5, lanIp="10.0.0.7", canDistribute=True)
    assert (await desk.post(REGISTER, body)).status == 201
    assert (await desk.post(REGISTER, announcement(canDistribute="yes"))).status == 400
    assert (await desk.post(REGISTER, announcement(capabilities="inference"))).status == 400
    assert (await desk.post(REGISTER, announcement(name="node"))).status == 400
    assert (await desk.post(REGISTER, announcement(timestamp=NOW - 61))).status == 401


async def test_letters_beyond_ascii_are_signed_as_themselves(desk: Desk) -> None:
    assert (await desk.post(REGISTER, announcement(capabilities=["modèle"]))).status == 201


# The chain


async def register_on(chain: DevChain) -> None:
    calldata = b"node".ljust(32, b"\0") + bytes(64)
    transaction = {
        "to": "0x" + "21".rjust(40, "0"),
        "data": calldata,
        "gas": 300_000,
        "gasPrice": 0,
        "nonce": 0,
        "chainId": 41956,
        "value": 0,
    }
    raw = "0x" + bytes(Account.sign_transaction(transaction, KEY).raw_transaction).hex()
    call = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw]}
    async with aiohttp.ClientSession() as session, session.post(chain.url, json=call) as response:
        assert "result" in await response.json()


async def test_registration_is_looked_up_on_the_chain() -> None:
    async with (
        DevChain(funds={AGENT: 10**18}) as chain,
        desk_of(OracleConfig(rpc_url=chain.url, clock=lambda: float(NOW))) as desk,
    ):
        refused = await desk.post(METRICS, metrics())
        assert (refused.status, refused.message) == (400, "Agent not registered on-chain")
        await register_on(chain)
        assert (await desk.post(METRICS, metrics())).status == 201


async def test_a_chain_that_is_down_looks_like_no_registration(unused_tcp_port: int) -> None:
    config = OracleConfig(rpc_url=f"http://127.0.0.1:{unused_tcp_port}", clock=lambda: float(NOW))
    async with desk_of(config) as desk:
        answer = await desk.post(METRICS, metrics())
        assert (answer.status, answer.message) == (400, "Agent not registered on-chain")
        assert (await desk.post(REGISTER, announcement())).status == 500


async def test_a_wallet_is_registered_on_the_chain_through_its_admin_port() -> None:
    async with DevChain() as chain:
        config = OracleConfig(rpc_url=chain.url, sponsor_url=chain.admin_url, clock=lambda: float(NOW))
        async with desk_of(config) as desk:
            assert (await desk.post(REGISTER, announcement())).status == 201
            assert (await desk.post(METRICS, metrics())).status == 201


# What tests and the demo see


async def test_what_was_refused_is_kept_with_its_reason(desk: Desk) -> None:
    await desk.post(METRICS, metrics(nonce=1))
    await desk.post(REPORT, report_v1(timestamp=NOW - 100))
    await desk.post(METRICS, "{")
    control = desk.oracle.control
    assert [(row.path, row.status, row.message) for row in await control.refusals(AGENT)] == [
        (METRICS, 400, ("property nonce should not exist",)),
        (REPORT, 401, ("Invalid signature",)),
    ]
    assert [row.agent for row in await control.refusals()] == [AGENT.lower(), AGENT.lower(), None]
    assert [(view.agent, view.refused) for view in await control.agents()] == [(AGENT.lower(), 2)]
