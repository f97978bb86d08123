"""What an answer of the Oracle means. Pure: every row of the table in docs/wire-formats.md is a branch here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

from plumised.nesting import nested_too_deeply
from plumised.oracle.client import Answer, Reply, Silence
from plumised.oracle.formats import Dialect

_GREATEST_WISH_DIGITS = 9
"""Of the seconds in Retry-After: 30 years, which the bound on pauses cuts anyway."""

_GREATEST_MESSAGE = 300
"""Characters of the Oracle's own words that go into a log line."""


class Refusal(StrEnum):
    """Why a report was certainly not booked."""

    FORMAT = "format"
    SIGNATURE = "signature"
    REPLAY = "replay"
    UNREGISTERED = "unregistered"
    CAP = "cap"
    TOO_LARGE = "too-large"
    NOT_FOUND = "not-found"
    REDIRECT = "redirect"
    BUSY = "busy"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The report is booked."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The report is not booked.

    Attributes:
        kind: what is wrong.
        message: the Oracle's words.
        retry_after_s: for how long it wants to be left alone, or None.
    """

    kind: Refusal
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unsent:
    """The report never reached the Oracle.

    Attributes:
        cause: for people.
    """

    cause: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The report may or may not be booked, now or in a moment.

    Attributes:
        cause: for people.
        under_way: whether the Oracle may be at it still, for nothing says that it has ended.
        retry_after_s: for how long it wants to be left alone, or None.
    """

    cause: str
    under_way: bool = True
    retry_after_s: float | None = None


Failed = Refused | Unsent | Unknown
Outcome = Accepted | Failed

_KNOWN_MESSAGES = (
    ("replay detected", Refusal.REPLAY),
    ("not registered", Refusal.UNREGISTERED),
    ("token count exceeds", Refusal.CAP),
    ("invalid signature", Refusal.SIGNATURE),
)
"""Beginnings of wisdom, lower case: the Oracle tells these apart by their text only."""


def classify_report(dialect: Dialect, reply: Reply) -> Outcome:
    """What became of a report."""
    if isinstance(reply, Silence):
        return _classify_silence(reply)
    content = _json(reply.body)
    if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        return _classify_success(dialect, content)
    return _classify_error(reply, content)


def _classify_silence(silence: Silence) -> Unknown | Unsent:
    return Unknown(silence.cause, under_way=not silence.hung_up) if silence.sent else Unsent(silence.cause)


def _classify_success(dialect: Dialect, content: object) -> Outcome:
    error = isinstance(content, dict) and content.get("status") == "error"
    if dialect is Dialect.REPORT_V1:
        message = _words(content)
        return Refused(_kind(message), message) if error else Accepted()
    if isinstance(content, dict) and content.get("success") is True and not error:
        return Accepted()
    # This dialect refuses with other statuses, so something between has spoken; the history tells.
    return Unknown("the answer has a success status, but is not the Oracle's")


def _classify_error(answer: Answer, content: object) -> Refused | Unknown:
    return replace(_error(answer, content), retry_after_s=retry_after_s(answer))


def _error(answer: Answer, content: object) -> Refused | Unknown:
    message = _words(content) or f"HTTP status {answer.status}"
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # A gateway has given up here; what is behind it has not.
        waits = answer.status == HTTPStatus.GATEWAY_TIMEOUT
        return Unknown(f"the Oracle answers {answer.status}: {message}", under_way=waits)
    if answer.status < HTTPStatus.BAD_REQUEST:
        return Refused(Refusal.REDIRECT, _printable(answer.location or "elsewhere"))
    if answer.status != HTTPStatus.BAD_REQUEST:
        return Refused(_STATUSES.get(answer.status) or _kind(message), message)
    if isinstance(content, dict) and isinstance(content.get("message"), list):
        return Refused(Refusal.FORMAT, message)
    if "internal server error" in message.lower():
        # The database failed at some point; whether before the booking, nobody says.
        return Unknown(f"the Oracle answers: {message}", under_way=False)
    return Refused(_kind(message), message)


_STATUSES: dict[int, Refusal] = {
    HTTPStatus.UNAUTHORIZED: Refusal.SIGNATURE,
    HTTPStatus.NOT_FOUND: Refusal.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: Refusal.NOT_FOUND,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Refusal.TOO_LARGE,
    HTTPStatus.TOO_MANY_REQUESTS: Refusal.BUSY,
}


@dataclass(frozen=True, slots=True)
class Sight:
    """What an inquiry has shown.

    Attributes:
        latest: timestamp of the last report that the Oracle accepted from the agent, 0 for none; None where it did
            not say.
        server_time: the Oracle's clock, seconds since the epoch, or None.
        trouble: why `latest` is None, for people; empty where it is known or was not asked for.
        answered: whether any HTTP server answered.
        retry_after_s: for how long it wants to be left alone, or None.
    """

    latest: int | None
    server_time: float | None
    trouble: str
    answered: bool
    retry_after_s: float | None = None


def classify_history(reply: Reply) -> Sight:
    """What the history of an agent tells. An agent that the Oracle does not know has nothing accepted."""
    if isinstance(reply, Silence):
        return Sight(None, None, reply.cause, answered=False)
    server_time = time_of(reply)
    content = _json(reply.body)
    if reply.status == HTTPStatus.NOT_FOUND:
        return Sight(0, server_time, "", answered=True)
    if reply.status == HTTPStatus.OK and isinstance(content, dict):
        match content.get("metrics"):
            case []:
                return Sight(0, server_time, "", answered=True)
            case [{"lastUpdated": stamp}, *_] if (latest := _timestamp(stamp)) is not None:
                return Sight(latest, server_time, "", answered=True)
            case _:
                pass
    trouble = f"its history cannot be read (status {reply.status})"
    return Sight(None, server_time, trouble, answered=True, retry_after_s=retry_after_s(reply))


def classify_health(reply: Reply) -> Sight:
    """What any answer tells of the server: that it is there, and its clock."""
    if isinstance(reply, Silence):
        return Sight(None, None, reply.cause, answered=False)
    return Sight(None, time_of(reply), "", answered=True, retry_after_s=retry_after_s(reply))


@dataclass(frozen=True, slots=True)
class Announced:
    """The Oracle has taken the node in; an unregistered wallet is being registered by it."""


def classify_announcement(reply: Reply) -> Announced | Failed:
    """What became of an announcement. It may be repeated, so nothing hangs on the difference of the last two."""
    if isinstance(reply, Silence):
        return _classify_silence(reply)
    content = _json(reply.body)
    if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        if isinstance(content, dict) and content.get("status") != "error" and content.get("success") is not False:
            return Announced()
        if isinstance(content, dict):
            return Refused(Refusal.OTHER, _words(content))
        return Unknown("the answer has a success status, but is not the Oracle's")
    return _classify_error(reply, content)


def time_of(reply: Reply) -> float | None:
    """The server's clock by the Date header, in whole seconds since the epoch; None where it does not say."""
    if isinstance(reply, Silence) or reply.date is None:
        return None
    try:
        return parsedate_to_datetime(reply.date).timestamp()
    except (ValueError, OverflowError):
        return None


def retry_after_s(answer: Answer) -> float | None:
    """For how long the server wants to be left alone: seconds, not negative, perhaps many; None where it has no wish.

    Only 429 and 503 can have one. A wish in the form of a date counts from the answer's own Date.
    """
    wish = (answer.retry_after or "").strip()
    if answer.status not in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE} or not wish:
        return None
    if wish.isascii() and wish.isdigit():
        return float(wish[:_GREATEST_WISH_DIGITS])
    server_time = time_of(answer)
    try:
        return None if server_time is None else max(0.0, parsedate_to_datetime(wish).timestamp() - server_time)
    except (ValueError, OverflowError):
        return None


def _kind(message: str) -> Refusal:
    lowered = message.lower()
    return next((kind for text, kind in _KNOWN_MESSAGES if text in lowered), Refusal.OTHER)


def _json(body: bytes | None) -> object:
    if body is None:
        return None
    try:
        text = body.decode()
        content: object = None if nested_too_deeply(text) else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content


def _words(content: object) -> str:
    if not isinstance(content, dict):
        return ""
    for key in ("message", "error", "detail"):
        match content.get(key):
            case str(text) if text:
                return _printable(text)
            case [_, *_] as several:
                return _printable("; ".join(str(one) for one in several))
            case _:
                pass
    return ""


def _printable(text: str) -> str:
    """Strangers' words, fit for one line of a log."""
    line = "".join(character if character.isprintable() else " " for character in text[:_GREATEST_MESSAGE])
    return line + "…" if len(text) > _GREATEST_MESSAGE else line


def _timestamp(value: object) -> int | None:
    match value:
        case bool():
            return None
        case int():
            return value if 0 <= value < 2**53 else None
        case str() if value.isascii() and value.isdigit() and len(value) <= len(str(2**53)):
            # Databases hand out 64 bit integers as text.
            return int(value)
        case _:
            return None
