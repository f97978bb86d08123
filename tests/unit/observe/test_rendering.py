from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from plumised.observe.rendering import one_line, to_json, to_text
from plumised.observe.status import EngineState, SandboxStatus, Status, TransactionStatus
from plumised.observe.wording import amount, count, duration
from tests.unit.observe import statuses
from tests.unit.observe.statuses import HEALTHY, NOW, TROUBLE


def test_the_json_has_every_part_and_what_follows_from_it() -> None:
    document = json.loads(to_json(HEALTHY))

    assert set(document) == {
        *("serving", "problems", "at", "node", "engine", "usage", "oracle", "chain", "wallet"),
    }
    assert document["serving"] is True
    assert document["problems"] == []
    assert document["engine"]["state"] == "serving"
    assert document["usage"]["total"] == {"requests": 8, "steps": 21, "tokens": 12350, "service_us": 411000}


def test_amounts_in_json_are_strings_that_no_reader_rounds() -> None:
    document = json.loads(to_json(statuses.chain(balance_wei=2**70 + 1, pending_reward_wei=None)))

    assert document["chain"]["balance_wei"] == str(2**70 + 1)
    assert document["chain"]["pending_reward_wei"] is None


def test_a_problem_in_json_has_all_its_parts() -> None:
    (problem,) = json.loads(to_json(statuses.oracle(trouble=TROUBLE)))["problems"]

    assert problem == {
        "code": "some-code",
        "severity": "warning",
        "message": "Something is wrong",
        "remedy": "Do something.",
        "since": NOW - 60,
        "next_try_at": NOW + 30,
    }


def test_the_text_of_a_healthy_node() -> None:
    assert to_text(HEALTHY) == (
        "node     alpha, plumised 0.1.0, up 2 h\n"
        "engine   serving for 60 min: blocks 0:12 of 24 of bigscience/bloom-560m "
        "(cpu, float32, weights int8, kernel-avx2)\n"
        "         peer 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA\n"
        "         sandbox files (Landlock ABI 6), signals (Landlock ABI 6), system-calls (seccomp), "
        "no-new-privileges (prctl)\n"
        "usage    12 350 tokens, 8 requests, 21 steps, 19.6 ms a step\n"
        "oracle   http://localhost:3100 (metrics-v1), last report accepted 35 s ago\n"
        "         12 000 tokens reported\n"
        "chain    41956, agent 0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F, registered, 1.5 PLM\n"
        "         last heartbeat 12 s ago (0xab)\n"
        "problems none\n"
    )


def test_the_text_tells_a_problem_with_remedy_and_next_try() -> None:
    text = to_text(statuses.oracle(trouble=TROUBLE))

    assert text.endswith("warning  Something is wrong (some-code).\n         Do something. Next try in 30 s.\n")


def test_a_try_that_is_under_way_is_told_as_such() -> None:
    text = to_text(statuses.oracle(trouble=replace(TROUBLE, next_try_at=HEALTHY.at)))

    assert "Do something. It is being tried again.\n" in text


def test_a_remedy_without_a_full_stop_gets_one_before_the_next_try() -> None:
    text = to_text(statuses.oracle(trouble=replace(TROUBLE, remedy="do something")))

    assert "do something. Next try in 30 s.\n" in text


def test_the_text_says_what_the_sandbox_lacks_and_that_it_is_off() -> None:
    assert "no signals (why)" in to_text(statuses.unconfined("signals"))
    assert "         sandbox off\n" in to_text(statuses.engine(sandbox=SandboxStatus("off")))


def test_the_json_has_the_sandbox() -> None:
    sandbox = json.loads(to_json(statuses.unconfined("signals")))["engine"]["sandbox"]
    assert sandbox["mode"] == "auto"
    assert sandbox["layers"][1] == {"name": "signals", "active": False, "detail": "why"}
    assert sandbox["overlaps"] == []


def test_the_text_shows_the_last_lines_of_a_failed_engine() -> None:
    assert "         | last line\n" in to_text(statuses.engine(state=EngineState.FAILED, failure=TROUBLE))


def test_the_text_of_a_node_without_oracle_and_chain() -> None:
    text = to_text(statuses.oracle(enabled=False)) + to_text(statuses.chain(enabled=False))

    assert "oracle   off\n" in text
    assert "chain    off\n" in text


def test_the_text_tells_of_proofs_where_there_are_any() -> None:
    oracle = replace(HEALTHY.oracle, proofs_accepted=120, proofs_waiting=3)
    text = to_text(replace(HEALTHY, oracle=oracle))

    assert "tokens reported, 120 proofs accepted, 3 waiting\n" in text


def test_one_line_says_what_matters_most() -> None:
    loading = statuses.engine(state=EngineState.STARTING, phase="loading", blocks_loaded=3, blocks_to_load=12)

    assert one_line(HEALTHY) == "Serving blocks 0:12 of 24 of bigscience/bloom-560m"
    assert one_line(loading) == "Engine starting, loading block 3 of 12"
    assert one_line(statuses.node(stopping=True)) == "Stopping"
    assert (
        one_line(statuses.engine(state=EngineState.FAILED, next_try_at=NOW + 300, failure=TROUBLE))
        == "Engine failed, next try in 5 min; Something is wrong"
    )


@given(
    st.sampled_from(
        [
            HEALTHY,
            statuses.engine(span_start=None, peer_id=None, device=None, dtype=None, path=None),
            statuses.engine(state=EngineState.STARTING, phase="joining"),
            statuses.engine(state=EngineState.BACKOFF, failure=TROUBLE, restarts=3),
            statuses.oracle(dialect=None, last_accepted_at=None),
            statuses.chain(registered=None, balance_wei=None, last_heartbeat_at=None),
        ]
    ),
    st.floats(-1e6, 1e6),
)
def test_any_status_at_any_time_can_be_rendered(status: Status, shift: float) -> None:
    at_another_time = Status(
        status.at + shift, status.node, status.engine, status.usage, status.oracle, status.chain, status.wallet
    )

    assert json.loads(to_json(at_another_time))["at"] == NOW + shift
    assert "None" not in to_text(at_another_time)
    assert "\n" not in one_line(at_another_time)


@given(st.integers(-(10**30), 10**30))
def test_an_amount_is_exact(wei: int) -> None:
    number = amount(wei).removesuffix(" PLM")
    whole, _, fraction = number.lstrip("-").partition(".")

    assert (-1 if wei < 0 else 1) * (int(whole) * 10**18 + int(fraction.ljust(18, "0"))) == wei


def test_durations_and_counts_in_words() -> None:
    assert [duration(s) for s in (-3, 0, 119, 120, 7199, 7200, 172799, 172800)] == [
        *("0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"),
    ]
    assert count(1234567) == "1 234 567"


def test_rewards_missed_heartbeats_and_the_transaction_on_its_way_are_shown() -> None:
    text = to_text(
        statuses.chain(
            pending_reward_wei=3 * 10**18,
            epoch=7,
            claims=1,
            claimed_wei=10**18,
            heartbeats_missed=(("heartbeat-pending", 3),),
            transaction=TransactionStatus("heartbeat", 12, "0xcd", 2, NOW - 70),
        )
    )

    assert "reward 3 PLM pending in epoch 7, 1 PLM claimed\n" in text
    assert ", 3 missed\n" in text
    assert "transaction to heartbeat on its way for 70 s (nonce 12, attempt 2, 0xcd)\n" in text
