"""The dialect metrics-v1: reading and checking one report."""

from __future__ import annotations

from typing import cast

from tests.devnet.oracle.fields import (
    ADDRESS,
    COUNT,
    HASH,
    NUMBER,
    TEXT,
    Object,
    Rule,
    check_fields,
    is_positive_count,
    violations,
)
from tests.devnet.oracle.refusal import invalid_signature
from tests.devnet.oracle.report import Proof, Report
from tests.devnet.oracle.signatures import check_signed, check_time

PATH = "/api/v1/metrics/report"

_REPORT = {
    "wallet": ADDRESS,
    "tokensProcessed": COUNT,
    "avgLatencyMs": NUMBER,
    "requestCount": COUNT,
    "uptimeSeconds": COUNT,
    "timestamp": COUNT,
    "signature": TEXT,
    "proofs": Rule(lambda value: isinstance(value, list), "must be an array", required=False),
}

_PROOF = {
    "modelHash": HASH,
    "inputHash": HASH,
    "outputHash": HASH,
    "tokenCount": Rule(is_positive_count, "must be an integer number not less than 1"),
}


def signed_text(wallet: str, tokens: int, timestamp: int) -> str:
    """The text that the wallet signs: three fields, this order, no spaces, the wallet as sent."""
    return f'{{"agent":"{wallet}","processed_tokens":{tokens},"timestamp":{timestamp}}}'


def read_report(body: Object, now: float) -> Report:
    """Check one report's fields, time and signature.

    Raises:
        Refused: something of it is wrong.
    """
    sent = body.get("proofs")
    proofs = sent if isinstance(sent, list) else []
    check_fields(body, _REPORT, tuple(line for index, proof in enumerate(proofs) for line in _wrong(index, proof)))
    wallet, tokens, timestamp = cast("str", body["wallet"]), body["tokensProcessed"], body["timestamp"]
    if not isinstance(tokens, int) or not isinstance(timestamp, int):
        # A literal such as 2010.0 reads as 2010 here, so its sender has signed another text.
        raise invalid_signature()
    check_time(timestamp, now)
    check_signed(signed_text(wallet, tokens, timestamp), cast("str", body["signature"]), wallet)
    return Report(
        dialect="metrics-v1",
        agent=wallet.lower(),
        tokens=tokens,
        requests=int(cast("float", body["requestCount"])),
        latency_ms=float(cast("float", body["avgLatencyMs"])),
        uptime_s=int(cast("float", body["uptimeSeconds"])),
        timestamp=timestamp,
        proofs=tuple(
            Proof(proof["modelHash"], proof["inputHash"], proof["outputHash"], int(proof["tokenCount"]))
            for proof in proofs
        ),
    )


def _wrong(index: int, proof: object) -> tuple[str, ...]:
    if not isinstance(proof, dict):
        return (f"proofs.{index} must be an object",)
    return violations(proof, _PROOF, prefix=f"proofs.{index}.")
