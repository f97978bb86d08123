"""The dialect report-v1: reading and checking one report."""

from __future__ import annotations

import json
from typing import cast

from tests.devnet.oracle.fields import ADDRESS, COUNT, NUMBER, TEXT, Object, Rule, check_fields, violations
from tests.devnet.oracle.refusal import invalid_signature
from tests.devnet.oracle.report import Report
from tests.devnet.oracle.signatures import check_signed, check_time

PATH = "/api/v1/report"

_MESSAGE = {"payload": Rule(lambda value: isinstance(value, dict), "must be an object"), "signature": TEXT}

_PAYLOAD = {
    "agent": ADDRESS,
    "processed_tokens": COUNT,
    "avg_latency_ms": NUMBER,
    "uptime_seconds": COUNT,
    "tasks_completed": COUNT,
    "timestamp": COUNT,
}


def signed_text(payload: Object) -> str:
    """The text that the wallet signs: the whole payload, keys sorted, no spaces, numbers as Python prints them."""
    return json.dumps(payload, sort_keys=True, separators=(",", ":"))


def read_report(body: Object, now: float) -> Report:
    """Check one report's fields, time and signature.

    Raises:
        Refused: something of it is wrong.
    """
    sent = body.get("payload")
    payload: Object = sent if isinstance(sent, dict) else {}
    check_fields(body, _MESSAGE, violations(payload, _PAYLOAD, prefix="payload."))
    tokens, requests, uptime, timestamp = (
        payload[name] for name in ("processed_tokens", "tasks_completed", "uptime_seconds", "timestamp")
    )
    if not (
        isinstance(tokens, int) and isinstance(requests, int) and isinstance(uptime, int) and isinstance(timestamp, int)
    ):
        raise invalid_signature()
    wallet = cast("str", payload["agent"])
    check_time(timestamp, now)
    check_signed(signed_text(payload), cast("str", body["signature"]), wallet)
    return Report(
        dialect="report-v1",
        agent=wallet.lower(),
        tokens=tokens,
        requests=requests,
        latency_ms=float(cast("float", payload["avg_latency_ms"])),
        uptime_s=uptime,
        timestamp=timestamp,
    )
