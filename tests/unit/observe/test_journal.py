"""Records as the journal gets them, at a real socket."""

from __future__ import annotations

import array
import fcntl
import io
import logging
import os
import re
import socket
import struct
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.events import LogEvent, Told, told
from plumised.observe.journal import JournalHandler, JournalSocket, datagram
from plumised.observe.logs import MAX_LINE, MAX_LINES, Form, Identity, handler_for
from plumised.observe.redaction import REDACTED, Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
LOGGER = logging.getLogger("plumised.test-of-the-journal")


def parsed(data: bytes) -> dict[str, str]:
    """Fields as systemd.journal-fields(7) and the protocol's page have them."""
    found: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name = line
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        found[name.decode()] = value.decode()
        data = rest
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Journal:
    """Who listens where the journal does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)

    def received(self) -> dict[str, str]:
        """The next record. One that comes as a file must be sealed, or the journal would refuse it."""
        data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for level, kind, content in ancillary:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            (descriptor,) = array.array("i", content)
            seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
            assert seals & (fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK) == 14
            with os.fdopen(descriptor, "rb") as file:
                file.seek(0)
                data = file.read()
        return parsed(data)

    def close(self) -> None:
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture
def stderr() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(tmp_path: Path, stderr: io.StringIO) -> Iterator[logging.Handler]:
    redactor = Redactor()
    redactor.register("correct horse")
    made = handler_for(Form.JOURNAL, stderr, redactor, Identity("alpha", "gpu1"), tmp_path / "journal")
    LOGGER.addHandler(made)
    LOGGER.setLevel(logging.DEBUG)
    yield made
    LOGGER.removeHandler(made)
    made.close()


names = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True)
values = st.text(st.characters(codec="utf-8"), max_size=200)


@given(st.dictionaries(names, values, max_size=8))
def test_what_is_sent_reads_back(wanted: dict[str, str]) -> None:
    assert parsed(datagram(wanted.items())) == wanted


@pytest.mark.usefixtures("handler")
def test_a_record_has_its_words_its_place_and_what_it_tells_to_programs(journal: Journal) -> None:
    LOGGER.warning("it failed: %s", "so", extra=told(LogEvent.ENGINE_FAILED, reason="oom-killed", retry_s=2.25))

    record = journal.received()

    assert record.pop("CODE_FILE") == __file__
    assert record.pop("CODE_LINE").isdigit()
    assert record == {
        "MESSAGE": "it failed: so",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "plumised",
        "CODE_FUNC": "test_a_record_has_its_words_its_place_and_what_it_tells_to_programs",
        "LOGGER": LOGGER.name,
        "PLUMISE_NODE": "alpha",
        "PLUMISE_INSTANCE": "gpu1",
        "PLUMISE_EVENT": "engine-failed",
        "PLUMISE_REASON": "oom-killed",
        "PLUMISE_RETRY_S": "2.2",
    }


@pytest.mark.usefixtures("handler")
def test_what_the_engine_prints_has_its_own_identifier(journal: Journal) -> None:
    LOGGER.info("loading", extra=told(LogEvent.ENGINE_OUTPUT))
    assert journal.received()["SYSLOG_IDENTIFIER"] == "plumise-engine"


@pytest.mark.usefixtures("handler")
def test_a_traceback_is_one_record(journal: Journal) -> None:
    try:
        raise RuntimeError("no")  # noqa: TRY301 -- a traceback is wanted
    except RuntimeError:
        LOGGER.exception("it broke")

    lines = journal.received()["MESSAGE"].splitlines()
    assert lines[0] == "it broke"
    assert lines[-1] == "RuntimeError: no"


@pytest.mark.usefixtures("handler")
def test_no_field_shows_a_secret(journal: Journal) -> None:
    secret = "correct horse"
    LOGGER.error(
        "the password is %s", secret, extra=told(LogEvent.CONFIG_REFUSED, reason=secret, keys=(secret,), agent=secret)
    )

    record = journal.received()

    assert [name for name, value in record.items() if secret in value] == []
    assert [record[f"PLUMISE_{name}"] for name in ("REASON", "KEYS", "AGENT")] == [REDACTED] * 3


@pytest.mark.usefixtures("handler")
def test_a_field_cannot_bring_another_one_along(journal: Journal) -> None:
    LOGGER.info("first\nPLUMISE_EVENT=forged", extra=told(LogEvent.ANNOUNCED, agent="0x1\nPRIORITY=0"))

    record = journal.received()

    assert record["MESSAGE"] == "first\nPLUMISE_EVENT=forged"
    assert (record["PLUMISE_EVENT"], record["PRIORITY"]) == ("announced", "6")
    assert "\n" not in record["PLUMISE_AGENT"]


@pytest.mark.usefixtures("handler")
def test_a_record_that_no_datagram_holds_comes_as_a_sealed_file(journal: Journal) -> None:
    LOGGER.info("%s", "\n".join(["€" * MAX_LINE] * MAX_LINES))
    assert journal.received()["MESSAGE"].splitlines() == ["€" * MAX_LINE] * MAX_LINES


@pytest.mark.usefixtures("handler")
def test_without_a_journal_records_go_to_standard_error_with_their_priority(stderr: io.StringIO) -> None:
    LOGGER.warning("hello")
    assert stderr.getvalue() == f"<4>{LOGGER.name}: hello\n"


def test_a_journal_that_takes_nothing_costs_no_record(tmp_path: Path, stderr: io.StringIO) -> None:
    full = Journal(tmp_path / "journal")
    made = handler_for(Form.JOURNAL, stderr, Redactor(), None, full.path)
    record = logging.makeLogRecord({"name": "x", "levelno": logging.INFO, "msg": "y" * MAX_LINE})
    sent = 0
    while not stderr.getvalue():
        made.handle(record)
        sent += 1
    received = 0
    while sent - received > 1:
        full.received()
        received += 1
    assert stderr.getvalue().startswith("<6>x: yyy")
    made.close()
    full.close()


@pytest.mark.usefixtures("handler")
def test_a_journal_that_comes_back_is_written_to_again(tmp_path: Path, stderr: io.StringIO) -> None:
    for words in ("one", "two"):
        journal = Journal(tmp_path / "journal")
        LOGGER.info("%s", words)
        assert journal.received()["MESSAGE"] == words
        journal.close()
        LOGGER.info("nobody hears %s", words)
    assert [line.rpartition(" ")[2] for line in stderr.getvalue().splitlines()] == ["one", "two"]


def test_the_socket_is_given_back(journal: Journal) -> None:
    made = JournalHandler(JournalSocket(journal.path), lambda _record: {"MESSAGE": "x"}, logging.NullHandler())
    before = descriptors()
    made.close()
    assert descriptors() == before - 1


def test_the_page_has_every_event_and_every_field_and_no_other() -> None:
    page = (ROOT / "docs/logs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    events = [name for name in rows if not name.isupper()]
    told_fields = [name for name in rows if name.startswith("PLUMISE_")]

    assert sorted(events) == sorted(LogEvent)
    assert sorted(told_fields) == sorted(
        ["PLUMISE_NODE", "PLUMISE_INSTANCE", *(f"PLUMISE_{field.name.upper()}" for field in fields(Told))]
    )
