from __future__ import annotations

import io
import json
import logging
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumised.events import LogEvent, told
from plumised.observe.logs import MAX_LINE, MAX_LINES, Form, RecordFormatter, configure, form_of
from plumised.observe.redaction import REDACTED, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    made = logging.LogRecord("plumised.oracle", level, "file.py", 1, message, None, None)
    made.created = 1_770_000_000.25
    return made


def written(message: str, form: Form, level: int = logging.INFO, redactor: Redactor | None = None) -> str:
    return RecordFormatter(form, redactor or Redactor()).format(record(message, level))


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (35, 4)],
)
def test_a_line_for_the_journal_begins_with_its_priority(level: int, priority: int) -> None:
    assert written("hello", Form.JOURNAL, level) == f"<{priority}>plumised.oracle: hello"


def test_each_line_for_the_journal_has_its_priority() -> None:
    assert written("a\nb", Form.JOURNAL) == "<6>plumised.oracle: a\n<6>plumised.oracle: b"


def test_text_begins_with_the_time() -> None:
    assert written("a\nb", Form.TEXT) == "2026-02-02T02:40:00.250Z INFO    plumised.oracle: a\n  b"


def test_json_is_one_line() -> None:
    assert json.loads(written("a\nb\nc", Form.JSON)) == {
        "at": "2026-02-02T02:40:00.250Z",
        "level": "info",
        "logger": "plumised.oracle",
        "message": "a",
        "detail": "b\nc",
    }


def test_json_has_what_a_record_tells_to_programs() -> None:
    redactor = Redactor()
    redactor.register("0xsecret")
    telling = record("it failed", logging.WARNING)
    for name, value in told(LogEvent.ENGINE_FAILED, reason="oom-killed", retry_s=3.0, agent="0xsecret").items():
        setattr(telling, name, value)

    written = json.loads(RecordFormatter(Form.JSON, redactor).format(telling))

    assert (written["event"], written["reason"], written["retry_s"]) == ("engine-failed", "oom-killed", "3.0")
    assert written["agent"] == REDACTED


@pytest.mark.parametrize("form", list(Form))
def test_a_traceback_is_written_without_the_secrets_in_it(form: Form) -> None:
    redactor = Redactor()
    redactor.register("correct horse")
    error = RuntimeError("the password was correct horse")
    failed = record("It failed", logging.ERROR)
    failed.exc_info = (RuntimeError, error, None)

    text = RecordFormatter(form, redactor).format(failed)

    assert "RuntimeError: the password was [redacted]" in text


@pytest.mark.parametrize("form", list(Form))
def test_a_secret_that_a_cut_would_split_is_replaced_before(form: Form) -> None:
    redactor = Redactor()
    redactor.register("s3cret-value")

    assert "s3c" not in written("x" * (MAX_LINE - 30) + "s3cret-value" * 3, form, redactor=redactor)


@given(st.text(max_size=3 * MAX_LINE), st.sampled_from(list(Form)))
@settings(suppress_health_check=[HealthCheck.large_base_example, HealthCheck.too_slow, HealthCheck.data_too_large])
def test_lines_are_bounded_and_printable(message: str, form: Form) -> None:
    text = written(message, form)

    lines = [json.loads(text)["message"]] if form is Form.JSON else text.split("\n")
    assert all(len(line) <= MAX_LINE + len("<6>") for line in lines)
    assert len(lines) <= MAX_LINES + 1
    assert all(letter.isprintable() or letter == "\t" for line in lines for letter in line)


def test_a_record_of_very_many_lines_is_cut() -> None:
    assert written("x\n" * 5000, Form.JOURNAL).endswith(f"… {5000 - MAX_LINES} lines more")


def test_the_journal_is_known_by_its_device_and_inode(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        named = f"{found.st_dev}:{found.st_ino}"

        assert form_of("auto", named, stream.fileno()) is Form.JOURNAL
        assert form_of("auto", "1:2", stream.fileno()) is Form.TEXT
        assert form_of("auto", None, stream.fileno()) is Form.TEXT
        assert form_of("json", named, stream.fileno()) is Form.JSON


@pytest.fixture
def loggers() -> Iterator[None]:
    """Logging as it is, afterwards."""
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.captureWarnings(False)


@pytest.mark.usefixtures("loggers")
def test_records_go_to_the_stream_from_the_level_on() -> None:
    stream = io.StringIO()
    configure("info", Form.JOURNAL, stream, Redactor())

    logging.getLogger("plumised.test").debug("no")
    logging.getLogger("plumised.test").info("password=%s", "hunter22")

    assert stream.getvalue() == "<6>plumised.test: password=[redacted]\n"


@pytest.mark.usefixtures("loggers")
def test_libraries_that_tell_each_request_are_quiet_even_when_debugging() -> None:
    stream = io.StringIO()
    configure("debug", Form.TEXT, stream, Redactor())

    logging.getLogger("web3.providers.HTTPProvider").info("Making request")
    logging.getLogger("plumised.test").debug("seen")

    assert re.fullmatch(r".*plumised\.test: seen\n", stream.getvalue())


@pytest.mark.usefixtures("loggers")
def test_a_stream_that_broke_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w", encoding="utf-8") as stream:
        configure("info", Form.TEXT, stream, Redactor())
        logging.getLogger("plumised.test").info("into the void")

    assert capsys.readouterr().err == ""
