"""What is signed and sent, to the byte: the golden vectors of wire-formats.md, and properties."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ledger import Proof
from plumised.oracle.formats import (
    Announcement,
    Claim,
    Dialect,
    announcement_body,
    announcement_text,
    history_path,
    report_body,
    signed_text,
)
from tests.devnet.oracle import metrics_v1, report_v1
from tests.unit.oracle.examples import ADDRESS, ExampleSigner

hashes = st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex())
proofs = st.builds(Proof, st.text(max_size=5), hashes, hashes, hashes, st.integers(1, 10**9))
claims = st.builds(
    Claim,
    agent=st.just(ADDRESS),
    tokens=st.integers(0, 10**9),
    requests=st.integers(0, 2**31 - 1),
    average_latency_ms=st.floats(0, 1e9),
    uptime_s=st.integers(0, 2**31 - 1),
    timestamp=st.integers(1, 2**40),
    proofs=st.lists(proofs, max_size=3).map(tuple),
)
SIGNER = ExampleSigner()


def test_report_v1_is_signed_as_the_golden_vector() -> None:
    claim = Claim(ADDRESS, 300, 2, 100.0, 42, 1770000000)
    assert SIGNER.sign_text(signed_text(Dialect.REPORT_V1, claim)) == (
        "0x5f2b002945fb8672862de88913ac208e18fff324684daa7cfe4ba4711e7fc8b8"
        "27be51624aacad10923273a097386b7faa47c6c841397054510300fc1524c3da1c"
    )


def test_report_v1_sends_the_payload_and_its_signature() -> None:
    claim = Claim(ADDRESS, 300, 2, 100.0, 42, 1770000000)
    assert report_body(Dialect.REPORT_V1, claim, "0xsig") == (
        f'{{"payload":{{"agent":"{ADDRESS}","processed_tokens":300,"avg_latency_ms":100.0,"uptime_seconds":42,'
        '"tasks_completed":2,"timestamp":1770000000},"signature":"0xsig"}'
    )


def test_metrics_v1_is_signed_as_the_golden_vector() -> None:
    claim = Claim(ADDRESS, 12345, 7, 20.5, 60, 1770000000)
    assert signed_text(Dialect.METRICS_V1, claim) == (
        f'{{"agent":"{ADDRESS}","processed_tokens":12345,"timestamp":1770000000}}'
    )
    assert SIGNER.sign_text(signed_text(Dialect.METRICS_V1, claim)) == (
        "0x961fdd56cbdafcc90358b20850af35a3c75f0a5573e8b89bb8baa8693e9a6f33"
        "389d1bc60cff55427cffc138fc4a649d523638e3b4ef508f9d312d43fbd1f5941c"
    )


def test_metrics_v1_sends_its_own_fields_and_no_other() -> None:
    claim = Claim(ADDRESS, 12345, 7, 20.5, 60, 1770000000, (Proof("key", "0xm", "0xi", "0xo", 50),))
    assert report_body(Dialect.METRICS_V1, claim, "0xsig") == (
        f'{{"wallet":"{ADDRESS}","tokensProcessed":12345,"avgLatencyMs":20.5,"requestCount":7,"uptimeSeconds":60,'
        '"timestamp":1770000000,"signature":"0xsig",'
        '"proofs":[{"modelHash":"0xm","inputHash":"0xi","outputHash":"0xo","tokenCount":50}]}'
    )


def test_without_proofs_the_field_is_left_out() -> None:
    assert "proofs" not in report_body(Dialect.METRICS_V1, Claim(ADDRESS, 1, 1, 0.0, 1, 1), "0x")


def test_an_announcement_is_signed_as_the_golden_vector() -> None:
    announcement = Announcement(ADDRESS, "http://203.0.113.7:31331", ("inference", "bigscience/bloom-560m"), 1770000000)
    assert announcement_text(announcement) == (
        f'{{"address":"{ADDRESS}","endpoint":"http://203.0.113.7:31331",'
        '"capabilities":["inference","bigscience/bloom-560m"],"timestamp":1770000000}'
    )
    assert SIGNER.sign_text(announcement_text(announcement)) == (
        "0xb9bbbb4082b6e367a70169f1cb097d7ea79c9c67ac21bbfedec3b486658e49a6"
        "16ba8596cf49f7703a435170f91600759839b54bb89dfd9ff9e9a4f96ee393e11c"
    )
    assert json.loads(announcement_body(announcement, "0xsig")) == {
        **json.loads(announcement_text(announcement)),
        "signature": "0xsig",
    }


@given(claims)
def test_every_metrics_v1_report_is_taken_by_an_oracle_that_checks_all(claim: Claim) -> None:
    body = json.loads(report_body(Dialect.METRICS_V1, claim, SIGNER.sign_text(signed_text(Dialect.METRICS_V1, claim))))
    read = metrics_v1.read_report(body, claim.timestamp)
    assert (read.tokens, read.requests, read.uptime_s, read.timestamp) == (
        claim.tokens,
        claim.requests,
        claim.uptime_s,
        claim.timestamp,
    )
    assert read.latency_ms == claim.average_latency_ms
    assert [proof.token_count for proof in read.proofs] == [proof.token_count for proof in claim.proofs]


@given(claims)
def test_every_report_v1_report_is_taken_by_an_oracle_that_checks_all(claim: Claim) -> None:
    body = json.loads(report_body(Dialect.REPORT_V1, claim, SIGNER.sign_text(signed_text(Dialect.REPORT_V1, claim))))
    read = report_v1.read_report(body, claim.timestamp)
    assert (read.tokens, read.requests, read.uptime_s, read.timestamp) == (
        claim.tokens,
        claim.requests,
        claim.uptime_s,
        claim.timestamp,
    )


@pytest.mark.parametrize("latency", [float("nan"), float("inf")])
def test_a_latency_that_json_cannot_say_is_refused(latency: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Claim(ADDRESS, 1, 1, latency, 1, 1)


def test_paths_are_those_of_the_dialects() -> None:
    assert Dialect.REPORT_V1.report_path == "/api/v1/report"
    assert Dialect.METRICS_V1.report_path == "/api/v1/metrics/report"
    assert history_path(ADDRESS) == f"/api/v1/metrics/agents/{ADDRESS}/history?limit=1"
    assert Dialect.REPORT_V1.other is Dialect.METRICS_V1
    assert Dialect.METRICS_V1.other is Dialect.REPORT_V1
