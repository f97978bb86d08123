from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from plumised.observe.metrics import METRICS, exposition
from plumised.observe.status import EngineState, WalletStatus
from tests.unit.observe import statuses
from tests.unit.observe.statuses import HEALTHY, TROUBLE

DOCUMENT = Path(__file__).parents[3] / "docs/metrics.md"

LABEL = r'[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"([a-z_]+)(\{{{LABEL}(?:,{LABEL})*\}})? (-?[0-9.e+-]+)")


def value(text: str, sample: str) -> str | None:
    found = re.search(rf"^{re.escape(sample)} (.+)$", text, re.MULTILINE)
    return found[1] if found else None


def test_what_the_status_says_is_exposed() -> None:
    text = exposition(HEALTHY)

    assert value(text, "plumise_serving") == "1"
    assert value(text, 'plumise_served_tokens_total{kind="inference"}') == "12345"
    assert value(text, 'plumise_service_seconds_total{kind="inference"}') == "0.41"
    assert value(text, "plumise_chain_balance_plm") == "1.5"
    assert value(text, 'plumise_engine_state{state="serving"}') == "1"
    assert value(text, 'plumise_engine_state{state="failed"}') == "0"


def test_what_is_not_known_is_left_out() -> None:
    text = exposition(statuses.chain(registered=None, balance_wei=None))

    assert value(text, "plumise_chain_registered") is None
    assert value(text, "plumise_chain_balance_plm") is None


def test_problems_are_exposed_by_code() -> None:
    text = exposition(statuses.engine(stuck="dht"))

    assert value(text, 'plumise_problem{code="engine-stuck",severity="error"}') == "1"
    assert value(text, 'plumise_problem{code="balance-low",severity="warning"}') == "0"
    assert value(exposition(statuses.oracle(trouble=TROUBLE)), 'plumise_problem{code="some-code",severity="warning"}')


@given(st.text(), st.text(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
def test_any_values_make_an_exposition_that_is_well_formed(
    model: str, agent: str, balance_wei: int, skew: float
) -> None:
    status = replace(
        statuses.chain(balance_wei=balance_wei),
        engine=statuses.engine(model=model, state=EngineState.IDLE).engine,
        oracle=statuses.oracle(clock_skew_s=skew).oracle,
        wallet=WalletStatus(agent),
    )

    text = exposition(status)

    assert text.endswith("\n")
    kinds: dict[str, str] = {}
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# TYPE "):
            name, kind = line.removeprefix("# TYPE ").split(" ")
            assert name not in kinds
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            sample = SAMPLE.fullmatch(line)
            assert sample is not None, line
            assert sample[1] in kinds


@given(st.text())
def test_a_label_reads_back_as_it_was(model: str) -> None:
    text = exposition(statuses.engine(model=model))

    found = re.search(r'model="((?:[^"\\\n]|\\.)*)"', text)
    assert found is not None
    unescaped = re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[1])
    assert unescaped == model


def test_counters_are_named_as_prometheus_wants() -> None:
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in METRICS)


def test_the_document_has_every_metric_with_its_meaning() -> None:
    rows = set(
        re.findall(r"^\| `(\w+)` \| (\w+) \| .*? \| (.+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    )

    assert rows == {(metric.name, metric.kind, metric.meaning) for metric in METRICS}


def test_missed_heartbeats_are_exposed_by_their_reason() -> None:
    text = exposition(statuses.chain(heartbeats_missed=(("rpc-none-usable", 2), ("heartbeat-pending", 1))))

    assert value(text, 'plumise_chain_heartbeats_missed_total{reason="rpc-none-usable"}') == "2"
    assert value(text, 'plumise_chain_heartbeats_missed_total{reason="heartbeat-pending"}') == "1"


def test_rewards_are_exposed() -> None:
    text = exposition(
        statuses.chain(epoch=7, contribution=(1, 2, 3, 4, 5, 6), claims=2, claimed_wei=5 * 10**17, in_registry=False)
    )

    assert value(text, "plumise_chain_epoch") == "7"
    assert value(text, 'plumise_chain_contribution{word="5"}') == "6.0"
    assert value(text, "plumise_chain_claimed_plm_total") == "0.5"
    assert value(text, "plumise_chain_in_registry") == "0"
