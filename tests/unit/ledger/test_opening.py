"""Opening: one process, damage set aside, strangers and later versions refused, older files brought up."""

import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from plumised.errors import OperatorError
from plumised.ledger import (
    Ledger,
    LedgerForbiddenError,
    LedgerForeignError,
    LedgerInUseError,
    LedgerTooNewError,
)
from plumised.ledger.database import Database
from plumised.ledger.schema import MIGRATIONS, SCHEMA_VERSION, migrate
from tests.unit.ledger.histories import inference, opened


def test_the_files_are_for_the_owner_only(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.usage.record([("first", "handler-0", inference(1))])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    ledger.close()


def test_a_second_opening_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with pytest.raises(LedgerInUseError, match=f"process {os.getpid()}") as refused:
        opened(tmp_path)
    assert isinstance(refused.value, OperatorError)
    ledger.close()
    opened(tmp_path).close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    program = (
        "import sys, time, pathlib; from plumised.ledger import Ledger; Ledger(pathlib.Path(sys.argv[1]), time.time)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "ledger.sqlite")], capture_output=True, text=True, check=False
    )
    assert "LedgerInUseError" in ended.stderr
    ledger.close()


@pytest.mark.parametrize(
    "content", [b"this is no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 8000], ids=["text", "header"]
)
def test_a_damaged_file_is_set_aside_and_an_empty_one_takes_its_place(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR):
        ledger = Ledger(path, lambda: 1770000000.5)
    kept = tmp_path / "ledger.sqlite.damaged-1770000000"
    assert ledger.set_aside == kept
    assert kept.read_bytes() == content
    assert str(kept) in caplog.text
    assert ledger.usage.record([("first", "handler-0", inference(3))]).tokens == 3
    ledger.close()


def test_damage_in_the_middle_of_a_real_ledger_is_found_at_opening(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.usage.record([(f"life-{number}", "handler-0", inference(1)) for number in range(500)])
    ledger.close()
    path = tmp_path / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    ledger = opened(tmp_path)
    assert ledger.set_aside is not None
    assert ledger.usage.totals().tokens == 0
    ledger.close()


def test_setting_aside_twice_in_one_second_keeps_both(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for _ in range(2):
        path.write_bytes(b"no database" * 100)
        Ledger(path, lambda: 5.0).close()
    assert {found.name for found in tmp_path.glob("*.damaged-*")} == {
        "ledger.sqlite.damaged-5",
        "ledger.sqlite.damaged-6",
    }


def test_a_file_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    opened(tmp_path).close()
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(LedgerTooNewError, match=f"schema {SCHEMA_VERSION + 1}"):
        opened(tmp_path)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE precious (thing TEXT)")
    with pytest.raises(LedgerForeignError):
        opened(tmp_path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM precious").fetchone() == (0,)


def test_a_missing_directory_is_the_operators_to_make(tmp_path: Path) -> None:
    with pytest.raises(LedgerForbiddenError, match="missing"):
        opened(tmp_path / "missing")


def test_a_refused_opening_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.mkdir()
    with pytest.raises(LedgerForbiddenError):
        opened(tmp_path)
    path.rmdir()
    opened(tmp_path).close()


def test_an_older_file_is_brought_up_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    opened(tmp_path).close()
    database = Database(path)
    later = (*MIGRATIONS, ("ALTER TABLE signed ADD COLUMN why TEXT",), ("UPDATE signed SET why = 'old'",))
    database.execute("INSERT INTO signed (id, timestamp) VALUES (1, 9)")
    migrate(database, path, later)
    assert database.rows("SELECT why FROM signed")[0].text(0) == "old"
    assert database.rows("PRAGMA user_version")[0].integer(0) == SCHEMA_VERSION + 2
    database.close()


def test_a_step_that_fails_leaves_the_older_schema(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    opened(tmp_path).close()
    database = Database(path)
    with pytest.raises(sqlite3.OperationalError):
        migrate(database, path, (*MIGRATIONS, ("CREATE TABLE half (a TEXT)", "CREATE NONSENSE")))
    assert database.rows("PRAGMA user_version")[0].integer(0) == SCHEMA_VERSION
    database.close()
    opened(tmp_path).close()
