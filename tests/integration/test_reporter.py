"""Whatever happens between the node and the Oracle, what is booked in the end is what was served."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

import aiohttp
import pytest

from plumised.ledger import Proof
from plumised.oracle import Announced, Announcer, Dialect, OracleClient, Policy, Refused, Unsent
from plumised.oracle.formats import Claim, report_body, signed_text
from tests.devnet.chain import CHAIN_ID, DevChain
from tests.devnet.oracle import Fault, OracleConfig
from tests.integration.reporting import AGENT, SIGNER, Node, Time, scene

if TYPE_CHECKING:
    from pathlib import Path

DIALECTS = list(Dialect)
HASH = "0x" + "11" * 32

FAULTS = [
    Fault(kind=kind, when=when, count=1)
    for kind in ("drop", "hang", "status", "garbage", "truncate", "error-body")
    for when in ("before", "after")
] + [
    Fault(kind="hang", when="booking", count=1),
    Fault(kind="status", status=502, when="after", count=2),
    Fault(kind="status", status=404, when="before", count=1),
    Fault(kind="drop", when="after", count=3),
    Fault(kind="delay", when="after", seconds=0.1, count=1),
    Fault(kind="refuse", status=400, message="Agent not registered on-chain", count=1),
    Fault(kind="refuse", status=400, message="Internal server error", when="after", count=1),
    Fault(kind="refuse", status=400, message="Replay detected: timestamp must be strictly increasing", count=1),
    Fault(kind="refuse", status=401, message="Invalid signature", count=1),
    Fault(kind="refuse", status=413, message="request entity too large", count=1),
    Fault(kind="rpc-down", count=1),
    Fault(kind="database-down", count=1),
    Fault(kind="status", on="history", count=2),
    Fault(kind="garbage", on="history", count=1),
    Fault(kind="hang", on="history", count=1),
    Fault(kind="drop", on="health", count=1),
]


async def register_on_chain(rpc_url: str) -> None:
    """Call precompile 0x21 as the agent: its name, no model, no capabilities."""
    signed = SIGNER.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": "0x0000000000000000000000000000000000000021",
            "data": b"bloom-560m-E4855A4F".ljust(96, b"\0"),
            "value": 0,
            "gas": 300_000,
            "gasPrice": 10**10,
        }
    )
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [signed]}
    async with aiohttp.ClientSession() as session, session.post(rpc_url, json=request) as answer:
        assert "result" in await answer.json()


def named(fault: Fault) -> str:
    return f"{fault.kind}-{fault.when}-{fault.on}-{fault.status}-{fault.count}"


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_is_served_is_booked(tmp_path: Path, dialect: Dialect) -> None:
    async with scene(tmp_path, dialect) as here:
        for tokens in (300, 0, 41):
            await here.node.serve(tokens)
            await here.node.credited()
            await here.check_books()
        snapshot = here.node.reporter.snapshot()
        assert (snapshot.agent, snapshot.url, snapshot.dialect) == (AGENT, here.oracle.url, dialect)
        assert snapshot.dialect_found
        assert snapshot.accepted is not None
        assert snapshot.reported.tokens == 341
        assert not snapshot.in_flight


async def test_a_report_says_requests_latency_and_uptime(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(20)
        await here.node.serve(10)
        await here.node.turn()
        here.clocks.pass_s(100)
        await here.node.turn()
        last = (await here.oracle.control.reports(AGENT))[-1]
        assert (last.tokens, last.requests, last.latency_ms) == (30, 2, 15.0)
        assert 100 <= last.uptime_s <= 102


async def test_an_idle_node_reports_its_uptime_at_the_interval(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        pauses = [await here.node.turn() for _ in range(3)]
        assert (await here.held()).accepted == 3
        assert all(54 <= pause <= 66 for pause in pauses)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS, ids=named)
async def test_one_fault_costs_no_token_and_books_none_twice(tmp_path: Path, dialect: Dialect, fault: Fault) -> None:
    async with scene(tmp_path, dialect) as here:
        await here.node.serve(100)
        await here.node.credited()
        await here.oracle.control.switch_on(fault)
        await here.node.serve(11)
        await here.node.turn()
        await here.node.serve(7)
        await here.node.credited()
        await here.oracle.control.clear_faults()
        await here.node.serve(5)
        await here.node.credited()
        await here.check_books()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS, ids=named)
async def test_a_fault_of_the_first_report_of_all_does_no_harm(tmp_path: Path, dialect: Dialect, fault: Fault) -> None:
    async with scene(tmp_path, dialect) as here:
        await here.oracle.control.switch_on(fault)
        await here.node.serve(11)
        await here.node.turn()
        await here.node.restart()
        await here.node.credited()
        await here.check_books()


async def test_a_lost_answer_is_found_in_the_history_and_nothing_is_sent_twice(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.oracle.control.switch_on(Fault(kind="drop", when="after", count=1))
        await here.node.serve(6)
        await here.node.turn()
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.trouble.code == "oracle-unknown-outcome"
        before = (await here.held()).accepted
        await here.node.restart()
        assert (await here.node.ledger.report_books()).in_flight is not None
        await here.node.turn()
        assert (await here.held()).accepted == before
        assert here.node.reporter.snapshot().reported.tokens == 11
        await here.check_books()


async def test_a_report_that_did_not_arrive_is_sent_again_unchanged_while_it_is_young(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.oracle.control.switch_on(Fault(kind="drop", when="before", count=1))
        await here.node.turn()
        flying = (await here.node.ledger.report_books()).in_flight
        assert flying is not None
        await here.node.credited()
        assert (await here.oracle.control.reports(AGENT))[-1].timestamp == flying.timestamp


async def test_nothing_is_sent_while_a_slow_oracle_may_still_be_booking(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        before = (await here.held()).accepted
        await here.oracle.control.switch_on(Fault(kind="delay", when="booking", seconds=1.5, count=1))
        await here.node.serve(6)
        await here.node.turn()
        await here.node.turn()
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.trouble.code == "oracle-unknown-outcome"
        await here.oracle.control.wait_for_agent(AGENT, lambda view: view.accepted == before + 1, 20.0)
        await here.node.credited()
        assert (await here.held()).accepted == before + 1
        await here.check_books()


@pytest.mark.parametrize("fault", FAULTS, ids=named)
async def test_no_proof_is_inserted_twice_and_none_is_lost(tmp_path: Path, fault: Fault) -> None:
    async with scene(tmp_path, policy=Policy(proofs_per_report=5)) as here:
        proofs = [Proof(f"r{n}", f"0x{n:064x}", "0x" + "11" * 32, "0x" + "22" * 32, n + 1) for n in range(20)]
        await here.node.ledger.add_proofs(proofs)
        await here.node.turn()
        await here.oracle.control.switch_on(fault)
        for _ in range(30):
            await here.node.turn()
        inserted = [proof.token_count for proof in await here.oracle.control.proofs(AGENT)]
        assert sorted(inserted) == list(range(1, 21))


async def test_too_many_proofs_are_halved_until_they_fit(tmp_path: Path) -> None:
    async with scene(tmp_path, policy=Policy(proofs_per_report=2000)) as here:
        await here.node.ledger.add_proofs(
            Proof(f"r{n}", f"0x{n:064x}", "0x" + "11" * 32, "0x" + "22" * 32, 1) for n in range(800)
        )
        for _ in range(8):
            await here.node.turn()
        assert len(await here.oracle.control.proofs(AGENT)) == 800
        assert {refusal.status for refusal in await here.oracle.control.refusals(AGENT)} <= {413}


async def test_proofs_that_the_oracle_never_takes_do_not_hold_up_the_counters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(9)
        await here.node.turn()
        await here.node.ledger.add_proofs([Proof("bad", "no hash", "no hash", "no hash", 1)])
        await here.node.credited()
        assert "for its form" in caplog.text
        assert await here.node.ledger.count_waiting_proofs() == 0
        await here.check_books()


async def test_a_cap_below_the_documented_one_is_learnt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(300)
        await here.node.credited()
        await here.oracle.control.switch_on(
            Fault(kind="refuse", status=400, message="Token count exceeds maximum allowed", count=1)
        )
        await here.node.serve(500)
        await here.node.credited()
        assert caplog.text.count("oracle-cap") == 1
        assert (await here.held()).restarts >= 1
        await here.check_books()


async def test_a_form_that_is_refused_is_told_as_our_bug_and_not_repeated_soon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"message":["property surprise should not exist"],"error":"Bad Request","statusCode":400}'

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    strict = await asyncio.start_server(refuse, "127.0.0.1", 0)
    clocks = Time()
    url = f"http://127.0.0.1:{strict.sockets[0].getsockname()[1]}"
    node = Node(tmp_path, url, clocks, Dialect.REPORT_V1, Policy())
    async with strict:
        await node.start()
        pause = await node.turn()
        problem = node.reporter.snapshot().problem
        await node.stop()
    assert pause == Policy().last_backoff_s
    assert problem is not None
    assert problem.trouble.code == "oracle-format"
    assert "surprise" in caplog.text
    assert "processed_tokens" in caplog.text


async def test_the_count_is_rebased_before_the_oracles_cap(tmp_path: Path) -> None:
    async with scene(tmp_path, policy=Policy(greatest_tokens=1000)) as here:
        for tokens in (600, 500, 1200, 1, 5000, 999):
            await here.node.serve(tokens)
            await here.node.credited()
            await here.check_books()
        assert (await here.held()).restarts >= 3
        assert max(report.tokens for report in await here.oracle.control.reports(AGENT)) <= 1000


@pytest.mark.parametrize("fault", [Fault(kind="drop", when=when, count=2) for when in ("before", "after")], ids=named)
async def test_the_base_moves_only_once_the_rebased_report_is_known_to_be_accepted(
    tmp_path: Path, fault: Fault
) -> None:
    async with scene(tmp_path, policy=Policy(greatest_tokens=1000)) as here:
        await here.node.serve(1000)
        await here.node.credited()
        await here.oracle.control.switch_on(fault)
        await here.node.serve(50)
        await here.node.turn()
        await here.node.restart()
        await here.node.serve(70)
        await here.node.credited()
        await here.check_books()


async def test_a_lost_ledger_costs_and_gains_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(700)
        await here.node.credited()
        await here.node.stop()
        (tmp_path / "ledger.sqlite").write_bytes(b"lost" * 1000)
        here.clocks.pass_s(5)
        await here.node.start()
        assert here.node.ledger.health().set_aside is not None
        await here.node.serve(900)
        await here.node.credited()
        assert (await here.held()).booked_tokens == 1600


@pytest.mark.parametrize("only", ["report-v1", "metrics-v1"])
async def test_the_dialect_that_the_oracle_speaks_is_found_and_remembered(tmp_path: Path, only: Dialect) -> None:
    listed = OracleConfig(listed=frozenset({AGENT.lower()}), dialects=frozenset({Dialect(only).value}))
    async with scene(tmp_path, dialect=None, config=listed) as here:
        await here.node.serve(5)
        await here.node.credited()
        assert here.node.reporter.snapshot().dialect == only
        refused = len(await here.oracle.control.refusals())
        await here.node.restart()
        here.clocks.pass_s(5)
        await here.node.serve(6)
        await here.node.credited()
        assert len(await here.oracle.control.refusals()) == refused
        await here.check_books()


async def test_a_fixed_dialect_that_the_oracle_does_not_speak_is_told(tmp_path: Path) -> None:
    listed = OracleConfig(listed=frozenset({AGENT.lower()}), dialects=frozenset({"report-v1"}))
    async with scene(tmp_path, dialect=Dialect.METRICS_V1, config=listed) as here:
        await here.node.turn()
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.trouble.code == "oracle-not-found"
        assert "auto" in problem.trouble.remedy


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_wrong_clock_signs_nothing_is_told_with_its_amount_and_heals(
    tmp_path: Path, ahead: float, dialect: Dialect
) -> None:
    async with scene(tmp_path, dialect) as here:
        await here.node.serve(5)
        await here.node.credited()
        here.clocks.ahead = ahead
        await here.node.serve(6)
        signed = (await here.node.ledger.report_books()).last_signed
        await here.node.turn()
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.trouble.code == "oracle-clock-skew"
        assert any(f"{amount} s" in problem.trouble.message for amount in (3599, 3600, 3601))
        assert (await here.node.ledger.report_books()).last_signed == signed
        here.clocks.ahead = 0.0
        await here.node.credited()
        await here.check_books()


async def test_an_oracle_whose_clock_goes_wrong_is_waited_for(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.oracle.control.switch_on(Fault(kind="skew", seconds=300.0))
        await here.node.serve(6)
        await here.node.turn()
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert "behind" in problem.trouble.message
        await here.oracle.control.clear_faults()
        await here.node.credited()
        await here.check_books()


@pytest.mark.parametrize("on", ["report", "history"])
@pytest.mark.parametrize("kind", ["refuse", "status"])
@pytest.mark.parametrize("status", [429, 503])
async def test_an_oracle_that_wants_to_be_left_alone_is_and_loses_nothing(
    tmp_path: Path, on: Literal["report", "history"], kind: Literal["refuse", "status"], status: int
) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        if on == "report":
            await here.node.credited()
        await here.oracle.control.switch_on(
            Fault(kind=kind, on=on, status=status, message="Too many requests", retry_after="120", count=1)
        )
        await here.node.serve(6)
        assert 120 <= await here.node.turn() <= 132
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.next_try_at == pytest.approx(here.clocks.wall())
        if status == HTTPStatus.TOO_MANY_REQUESTS or on == "history":
            assert problem.trouble.code == "oracle-busy"
        await here.node.credited()
        await here.check_books()


async def test_an_oracle_that_asks_for_too_much_is_tried_again_all_the_same(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.oracle.control.switch_on(
            Fault(kind="refuse", status=429, message="Too many requests", retry_after="86400", count=1)
        )
        await here.node.serve(6)
        assert await here.node.turn() <= 990
        await here.node.credited()
        await here.check_books()


async def test_an_oracle_that_is_away_is_told_and_caught_up_with(tmp_path: Path) -> None:
    database = tmp_path / "oracle.sqlite"
    config = OracleConfig(listed=frozenset({AGENT.lower()}), database=database)
    async with scene(tmp_path, config=config) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.oracle.stop()
        await here.node.serve(6)
        pauses = [await here.node.turn() for _ in range(6)]
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.trouble.code == "oracle-unreachable"
        assert problem.failures == 6
        assert problem.next_try_at == pytest.approx(here.clocks.wall())
        assert max(pauses) > 4 * min(pauses)
        assert (await here.node.ledger.report_books()).in_flight is None
        await here.oracle.start()
        await here.node.credited()
        await here.check_books()


async def test_an_unregistered_agent_asks_for_registration_and_is_credited_once_it_is(tmp_path: Path) -> None:
    async with (
        DevChain(funds={AGENT: 10**18}) as chain,
        scene(tmp_path, config=OracleConfig(rpc_url=chain.url)) as here,
    ):
        await here.node.serve(5)
        await here.node.turn()
        assert here.node.unregistered == 1
        problem = here.node.reporter.snapshot().problem
        assert problem is not None
        assert problem.trouble.code == "oracle-unregistered"
        await register_on_chain(chain.url)
        await here.node.credited()
        await here.check_books()


async def test_timestamps_that_another_program_used_are_passed_by(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.node.stop()
        ahead = int(here.clocks.oracle) + 40
        claim = Claim(AGENT, 5, 1, 0.0, 0, ahead)
        signature = SIGNER.sign_text(signed_text(Dialect.METRICS_V1, claim))
        await OracleClient(here.oracle.url, timeout_s=5.0).post(
            Dialect.METRICS_V1.report_path, report_body(Dialect.METRICS_V1, claim, signature)
        )
        await here.node.start()
        await here.node.serve(6)
        await here.node.credited()
        reports = await here.oracle.control.reports(AGENT)
        assert reports[-1].timestamp > ahead
        assert await here.oracle.control.refusals(AGENT) == []
        await here.check_books()


async def test_the_final_report_leaves_nothing_unreported(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        assert await here.node.reporter.final_report(within_s=20.0)
        await here.check_books()
        accepted = (await here.held()).accepted
        assert await here.node.reporter.final_report(within_s=20.0)
        assert (await here.held()).accepted == accepted


async def test_final_reports_carry_every_proof_though_its_work_was_reported_before(tmp_path: Path) -> None:
    async with scene(tmp_path, policy=Policy(proofs_per_report=5)) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.node.ledger.add_proofs(
            Proof(f"r{n}", f"0x{n:064x}", "0x" + "11" * 32, "0x" + "22" * 32, n + 1) for n in range(12)
        )
        assert await here.node.reporter.final_report(within_s=20.0)
        inserted = [proof.token_count for proof in await here.oracle.control.proofs(AGENT)]
        assert sorted(inserted) == list(range(1, 13))
        snapshot = here.node.reporter.snapshot()
        assert (snapshot.proofs_waiting, snapshot.proofs_accepted) == (0, 12)
        await here.check_books()


async def test_a_report_without_room_for_proofs_leaves_them_and_ends(tmp_path: Path) -> None:
    async with scene(tmp_path, policy=Policy(proofs_per_report=0)) as here:
        await here.node.serve(5)
        await here.node.ledger.add_proofs([Proof("r", HASH, HASH, HASH, 1)])
        assert await here.node.reporter.final_report(within_s=20.0)
        assert await here.oracle.control.proofs(AGENT) == []
        assert await here.node.ledger.count_waiting_proofs() == 1


async def test_a_backlog_of_proofs_is_worked_off_without_waiting_for_the_interval(tmp_path: Path) -> None:
    async with scene(tmp_path, policy=Policy(interval_s=3600.0, proofs_per_report=5)) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.node.ledger.add_proofs(Proof(f"r{n}", f"0x{n:064x}", HASH, HASH, 1) for n in range(12))
        pauses = [await here.node.turn() for _ in range(2)]
        assert pauses[0] <= 1.0
        assert pauses[1] > 1.0


async def test_a_final_report_ends_in_time_and_what_is_open_is_settled_in_the_next_life(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        await here.node.serve(6)
        await here.oracle.control.switch_on(Fault(kind="hang", on="any"))
        assert not await here.node.reporter.final_report(within_s=0.2)
        await here.oracle.control.clear_faults()
        await here.node.restart()
        await here.node.credited()
        await here.check_books()


async def test_the_loop_reports_by_itself_until_the_final_report(tmp_path: Path) -> None:
    quick = Policy(interval_s=0.05, first_backoff_s=0.05, last_backoff_s=0.1)
    async with scene(tmp_path, policy=quick) as here, asyncio.timeout(30), asyncio.TaskGroup() as group:
        running = group.create_task(here.node.reporter.run())
        await here.node.serve(5)
        await here.oracle.control.wait_for_agent(AGENT, lambda view: view.booked_tokens == 5, 20.0)
        await here.node.serve(6)
        here.node.reporter.report_soon()
        assert await here.node.reporter.final_report(within_s=10.0)
        await running
        assert here.node.reporter.snapshot().reported.tokens == 11
        await here.check_books()


async def test_a_daemon_that_is_killed_between_sending_and_hearing_loses_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        await here.node.serve(5)
        await here.node.credited()
        for when in ("before", "after"):
            await here.oracle.control.switch_on(Fault(kind="delay", when=when, seconds=0.1, count=1))
            await here.node.serve(6)
            await here.node.abandoned_turn(after_s=0.05)
            await here.node.restart()
            here.clocks.pass_s(1)
        await here.node.credited()
        await here.check_books()


async def test_an_announcement_is_taken_and_sponsors_an_unregistered_wallet(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        announcing = Announcer(
            client=OracleClient(here.oracle.url, timeout_s=10.0),
            signer=SIGNER,
            ledger=here.node.ledger,
            clock=time.time,
            monotonic=time.monotonic,
        )
        capabilities = ("inference", "bigscience/bloom-560m")
        assert await announcing.announce("http://203.0.113.7:31331", capabilities) == Announced()
        taken = (await here.oracle.control.registrations(AGENT))[-1]
        assert (taken.endpoint, taken.capabilities, taken.sponsored) == (
            "http://203.0.113.7:31331",
            capabilities,
            True,
        )
        assert isinstance(await announcing.announce("http://localhost:31331", capabilities), Refused)


async def test_nothing_is_announced_with_a_wrong_clock(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        announcing = Announcer(
            client=OracleClient(here.oracle.url, timeout_s=10.0),
            signer=SIGNER,
            ledger=here.node.ledger,
            clock=lambda: here.clocks.oracle + 600,
            monotonic=time.monotonic,
        )
        outcome = await announcing.announce("http://203.0.113.7:31331", ())
        assert isinstance(outcome, Unsent)
        assert "600 s ahead" in outcome.cause
        assert (await here.node.ledger.report_books()).last_signed == 0
