"""A node's announcement to the Oracle, which also gets an unregistered wallet registered."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from tests.devnet.oracle.fields import ADDRESS, COUNT, NUMBER, TEXT, Object, Rule, check_fields
from tests.devnet.oracle.refusal import invalid_signature
from tests.devnet.oracle.signatures import check_signed, check_time

PATH = "/api/nodes/register"


@dataclass(frozen=True, slots=True)
class Announcement:
    """Where a node is and what it can do.

    Attributes:
        agent: the wallet's address, lower case.
        timestamp: Unix time in seconds.
    """

    agent: str
    endpoint: str
    capabilities: tuple[str, ...]
    timestamp: int


def is_endpoint(value: object) -> bool:
    """Whether it is an http(s) URL whose host is an IP address or has a dot."""
    if not isinstance(value, str):
        return False
    try:
        url = urlsplit(value)
        host, port = url.hostname, url.port
    except ValueError:
        return False
    if url.scheme not in {"http", "https"} or not host or port == 0:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host.strip(".") and all(host.rstrip(".").split("."))
    return True


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_FIELDS = {
    "address": ADDRESS,
    "endpoint": Rule(is_endpoint, "must be a URL address"),
    "capabilities": Rule(_is_texts, "must be an array of strings"),
    "timestamp": COUNT,
    "signature": TEXT,
    "benchmarkTokPerSec": Rule(NUMBER.holds, NUMBER.wish, required=False),
    "lanIp": Rule(TEXT.holds, TEXT.wish, required=False),
    "canDistribute": Rule(lambda value: isinstance(value, bool), "must be a boolean value", required=False),
}


def signed_text(address: str, endpoint: str, capabilities: tuple[str, ...], timestamp: int) -> str:
    """The text that the wallet signs: four fields in this order, no spaces, as JavaScript writes JSON."""
    fields = {"address": address, "endpoint": endpoint, "capabilities": list(capabilities), "timestamp": timestamp}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def read_announcement(body: Object, now: float) -> Announcement:
    """Check one announcement's fields, time and signature.

    Raises:
        Refused: something of it is wrong.
    """
    check_fields(body, _FIELDS)
    timestamp = body["timestamp"]
    if not isinstance(timestamp, int):
        raise invalid_signature()
    address, endpoint = cast("str", body["address"]), cast("str", body["endpoint"])
    capabilities = tuple(cast("list[str]", body["capabilities"]))
    check_time(timestamp, now)
    check_signed(signed_text(address, endpoint, capabilities, timestamp), cast("str", body["signature"]), address)
    return Announcement(address.lower(), endpoint, capabilities, timestamp)
