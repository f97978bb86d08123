"""What a command says when it fails: to people on standard error, to the journal with fields for programs."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest

from plumised.cli.complaints import complain
from plumised.cli.verb import Context
from plumised.config import ConfigError, ConfigProblem
from plumised.observe.control_client import NoDaemonError, ReloadRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = Path("/etc/plumise/node.toml")
PROBLEMS = (
    ConfigProblem(FILE, 3, "engine.handlers", "is 0, which is out of range", "Write a number from 1 to 32."),
    ConfigProblem(FILE, 9, "log.levle", "is not a key", "Did you mean log.level?"),
)


def context(stderr: TextIO, environ: dict[str, str]) -> Context:
    return Context(io.StringIO(), stderr, environ, "host")


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[TextIO]:
    with (tmp_path / "stderr").open("w+", encoding="utf-8") as made:
        yield made


def stream_name(stream: TextIO) -> dict[str, str]:
    """The environment that systemd gives a service whose standard error this is."""
    found = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def test_an_error_is_a_line_with_its_code_and_remedy() -> None:
    stderr = io.StringIO()
    complain(NoDaemonError("Nobody answers", "Start it."), context(stderr, {}))
    assert stderr.getvalue() == "plumised: Nobody answers (no-daemon). Start it.\n"


def test_each_mistake_and_each_reason_is_a_line() -> None:
    stderr = io.StringIO()
    complain(ConfigError(PROBLEMS), context(stderr, {}))
    complain(ReloadRefusedError("It is not taken", "Mend it.", ("one", "two")), context(stderr, {}))
    assert stderr.getvalue().splitlines() == [
        *(f"plumised: {problem}" for problem in PROBLEMS),
        "plumised: one",
        "plumised: two",
    ]


def test_where_standard_error_is_the_journal_each_line_is_a_record(tmp_path: Path, stream: TextIO) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        journal.settimeout(10)
        complain(ConfigError(PROBLEMS), context(stream, stream_name(stream)), tmp_path / "journal")
        records = [journal.recv(65536).decode().splitlines() for _ in PROBLEMS]

    for record, problem in zip(records, PROBLEMS, strict=True):
        assert f"MESSAGE={problem}" in record
        assert "PRIORITY=3" in record
        assert "PLUMISE_EVENT=command-failed" in record
        assert "PLUMISE_REASON=configuration" in record
        assert f"PLUMISE_KEYS={problem.key}" in record
    stream.seek(0)
    assert stream.read() == ""


def test_another_stream_than_the_journal_is_written_to(tmp_path: Path, stream: TextIO) -> None:
    complain(
        NoDaemonError("Nobody answers", "Start it."), context(stream, {"JOURNAL_STREAM": "1:2"}), tmp_path / "none"
    )
    stream.seek(0)
    assert stream.read() == "plumised: Nobody answers (no-daemon). Start it.\n"
