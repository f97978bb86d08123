"""What an answer means: every row of the table in wire-formats.md, and whatever else a server may say."""

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.oracle.answers import (
    Accepted,
    Announced,
    Outcome,
    Refusal,
    Refused,
    Unknown,
    Unsent,
    classify_announcement,
    classify_health,
    classify_history,
    classify_report,
    retry_after_s,
    time_of,
)
from plumised.oracle.client import Answer, Reply, Silence
from plumised.oracle.formats import Dialect

METRICS, REPORT = Dialect.METRICS_V1, Dialect.REPORT_V1
DATE = "Mon, 02 Feb 2026 02:40:00 GMT"


def answer(status: int, content: object = None, **headers: str) -> Answer:
    return Answer(status, json.dumps(content).encode(), **headers)


def refusal(status: int, message: object) -> Answer:
    return answer(status, {"message": message, "error": "Bad Request", "statusCode": status})


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(400, ["property agentAddress should not exist"]), Refusal.FORMAT),
        (refusal(400, ["proofs.0.tokenCount must not be less than 1"]), Refusal.FORMAT),
        (refusal(401, "Invalid signature"), Refusal.SIGNATURE),
        (refusal(400, "Replay detected: timestamp must be strictly increasing"), Refusal.REPLAY),
        (refusal(400, "Agent not registered on-chain"), Refusal.UNREGISTERED),
        (refusal(400, "Token count exceeds maximum allowed"), Refusal.CAP),
        (refusal(413, "request entity too large"), Refusal.TOO_LARGE),
        (refusal(404, "Cannot POST /api/v1/metrics/report"), Refusal.NOT_FOUND),
        (refusal(429, "Too many requests"), Refusal.BUSY),
        (refusal(403, "Forbidden"), Refusal.OTHER),
        (Answer(302, b"", location="https://elsewhere/"), Refusal.REDIRECT),
        (Answer(400, b"\xff not JSON"), Refusal.OTHER),
    ],
)
@pytest.mark.parametrize("dialect", list(Dialect))
def test_these_are_refusals(reply: Answer, kind: Refusal, dialect: Dialect) -> None:
    outcome = classify_report(dialect, reply)
    assert isinstance(outcome, Refused)
    assert outcome.kind is kind
    assert outcome.message


@pytest.mark.parametrize(
    "reply",
    [
        refusal(400, "Internal server error"),
        refusal(500, "Internal server error"),
        Answer(502, b"<html>Bad Gateway</html>"),
        Answer(503, None),
        Silence("no answer within the time allowed", sent=True),
    ],
)
@pytest.mark.parametrize("dialect", list(Dialect))
def test_after_these_nobody_knows_whether_it_was_booked(reply: Reply, dialect: Dialect) -> None:
    assert isinstance(classify_report(dialect, reply), Unknown)


@pytest.mark.parametrize(
    ("reply", "under_way"),
    [
        (refusal(400, "Internal server error"), False),
        (refusal(500, "Internal server error"), False),
        (Answer(503, None), False),
        (Answer(504, b"<html>Gateway Time-out</html>"), True),
        (Answer(201, b"<html>Log in to this network</html>"), True),
        (Silence("no answer within the time allowed", sent=True), True),
        (Silence("the connection was closed without an answer", sent=True, hung_up=True), False),
    ],
)
def test_only_who_answers_or_hangs_up_is_known_not_to_be_at_it_still(reply: Reply, under_way: bool) -> None:
    outcome = classify_report(METRICS, reply)
    assert isinstance(outcome, Unknown)
    assert outcome.under_way is under_way


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Mon, 02 Feb 2026 02:42:30 GMT", 150.0),
        ("Mon, 02 Feb 2026 02:00:00 GMT", 0.0),
        ("9" * 500, 999_999_999.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_how_long_the_oracle_wants_to_be_left_alone(status: int, wish: str | None, seconds: float | None) -> None:
    reply = Answer(status, b"", DATE, retry_after=wish)
    outcome = classify_report(METRICS, reply)
    assert isinstance(outcome, Refused | Unknown)
    assert outcome.retry_after_s == seconds
    assert classify_history(reply).retry_after_s == seconds
    assert classify_health(reply).retry_after_s == seconds


def test_only_an_oracle_that_cannot_has_a_wish() -> None:
    assert retry_after_s(Answer(400, b"", DATE, retry_after="60")) is None
    assert retry_after_s(Answer(503, b"", None, retry_after=DATE)) is None


def test_report_v1_refuses_with_an_error_body() -> None:
    reply = answer(200, {"status": "error", "message": "Agent not registered on-chain"})
    assert classify_report(REPORT, reply) == Refused(Refusal.UNREGISTERED, "Agent not registered on-chain")
    assert isinstance(classify_report(METRICS, reply), Unknown)


def test_a_report_that_was_never_sent_is_not_booked() -> None:
    assert classify_report(METRICS, Silence("Connection refused", sent=False)) == Unsent("Connection refused")


@pytest.mark.parametrize("resets", [True, False])
def test_metrics_v1_accepts_with_201_and_its_wish_for_a_reset_is_ignored(resets: bool) -> None:
    reply = answer(201, {"success": True, "message": "ok", "shouldReset": resets})
    assert classify_report(METRICS, reply) == Accepted()


@pytest.mark.parametrize(
    "reply", [Answer(201, b"<html>"), Answer(201, None), answer(200, {"success": False}), answer(200, []), answer(204)]
)
def test_metrics_v1_with_a_success_status_of_another_server_is_unknown(reply: Answer) -> None:
    assert isinstance(classify_report(METRICS, reply), Unknown)


@pytest.mark.parametrize("reply", [answer(200, {"status": "ok"}), Answer(204, b""), Answer(201, b"fine"), answer(200)])
def test_report_v1_accepts_with_any_success_but_an_error_body(reply: Answer) -> None:
    assert classify_report(REPORT, reply) == Accepted()


@given(st.sampled_from(Dialect), st.integers(100, 599), st.none() | st.binary(max_size=200))
def test_no_answer_whatsoever_raises(dialect: Dialect, status: int, body: bytes | None) -> None:
    outcome: Outcome = classify_report(dialect, Answer(status, body))
    assert isinstance(outcome, Accepted | Refused | Unknown)
    classify_history(Answer(status, body))
    classify_announcement(Answer(status, body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["message", "metrics", "status"]), inner)
    ),
    max_leaves=8,
)


@given(st.sampled_from(Dialect), st.integers(100, 599), json_values)
def test_no_json_whatsoever_raises(dialect: Dialect, status: int, content: object) -> None:
    classify_report(dialect, answer(status, content))
    classify_history(answer(status, content))
    classify_announcement(answer(status, content))


def test_deeply_nested_json_is_only_nonsense() -> None:
    assert isinstance(classify_report(METRICS, Answer(201, b"[" * 60_000)), Unknown)


@given(st.text())
def test_the_oracles_words_fit_into_one_line_of_a_log(words: str) -> None:
    outcome = classify_report(METRICS, refusal(400, words))
    text = outcome.message if isinstance(outcome, Refused) else ""
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) <= 301


@pytest.mark.parametrize("stamp", [1769999999, "1769999999"])
def test_history_tells_the_last_accepted_report(stamp: object) -> None:
    sight = classify_history(answer(200, {"metrics": [{"lastUpdated": stamp}]}, date=DATE))
    assert (sight.latest, sight.server_time, sight.answered) == (1769999999, 1770000000.0, True)


@pytest.mark.parametrize("reply", [answer(200, {"metrics": []}), answer(404, {"message": "Agent not found"})])
def test_an_agent_without_history_has_nothing_accepted(reply: Answer) -> None:
    assert classify_history(reply).latest == 0


@pytest.mark.parametrize(
    "reply",
    [
        answer(500),
        answer(200, {"metrics": [{}]}),
        answer(200, {"metrics": [{"lastUpdated": True}]}),
        answer(200, {"metrics": [{"lastUpdated": -1}]}),
        answer(200, {"metrics": [{"lastUpdated": "9" * 40}]}),
        Answer(200, b"<html>"),
        Silence("gone", sent=True),
    ],
)
def test_a_history_that_makes_no_sense_tells_nothing(reply: Reply) -> None:
    sight = classify_history(reply)
    assert sight.latest is None
    assert sight.trouble


@pytest.mark.parametrize("status", [200, 404, 500])
def test_any_answer_to_the_health_inquiry_tells_the_time(status: int) -> None:
    sight = classify_health(answer(status, date=DATE))
    assert (sight.server_time, sight.answered) == (1770000000.0, True)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Feb 2026 02:40:00 GMT"])
def test_a_date_that_makes_no_sense_is_no_time(date: str | None) -> None:
    assert time_of(Answer(200, b"", date)) is None


def test_an_announcement_is_taken_with_201() -> None:
    assert classify_announcement(answer(201, {"success": True})) == Announced()


@pytest.mark.parametrize("status", [HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED])
def test_an_announcement_may_be_refused(status: HTTPStatus) -> None:
    assert isinstance(classify_announcement(refusal(status, "endpoint must be a URL address")), Refused)


def test_an_announcement_without_answer_is_unknown() -> None:
    assert classify_announcement(Silence("slow", sent=True)) == Unknown("slow")
