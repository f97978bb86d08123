"""The tally: what was written can be read whatever happens to the writer, and damage is never taken for counts."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ipc.messages import Counters, Usage
from plumised.ipc.tally import TallyWriter, handler_key, read_tally, tallies, tally_path
from tests.unit.ipc.strategies import usages


def usage(tokens: int) -> Usage:
    return Usage(Counters(tokens=tokens), Counters(), Counters())


def written(path: Path, *values: Usage) -> Path:
    writer = TallyWriter(path)
    for value in values:
        writer.write(value)
    writer.close()
    return path


@given(st.lists(usages, min_size=1, max_size=5))
def test_the_last_value_written_is_the_one_that_is_read(values: list[Usage]) -> None:
    with TemporaryDirectory() as directory:
        assert read_tally(written(Path(directory) / "t", *values)) == values[-1]


@given(st.lists(usages, min_size=2, max_size=4), st.data())
def test_a_write_that_stopped_anywhere_leaves_the_value_before_it(values: list[Usage], data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        before = written(Path(directory) / "before", *values[:-1]).read_bytes()
        after = written(Path(directory) / "after", *values).read_bytes()
        stopped = data.draw(st.integers(0, len(after)))
        path = Path(directory) / "torn"
        path.write_bytes(after[:stopped] + before[stopped:])
        assert read_tally(path) in (values[-2], values[-1])


@given(usages, st.data())
def test_no_damage_gives_counts_that_were_never_written(value: Usage, data: st.DataObject) -> None:
    with TemporaryDirectory() as directory:
        path = written(Path(directory) / "t", usage(1), value)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        assert read_tally(path) in (value, usage(1), None)


@pytest.mark.parametrize("content", [b"", b"PLMTALLY", b"\0" * 240, b"x" * 1000])
def test_a_file_without_counts_gives_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    assert read_tally(path) is None


def test_a_tally_starts_with_zeros(tmp_path: Path) -> None:
    assert read_tally(written(tmp_path / "t")) == usage(0)


def test_a_handler_never_writes_over_another_ones_tally(tmp_path: Path) -> None:
    written(tmp_path / "t", usage(1))
    with pytest.raises(FileExistsError):
        TallyWriter(tmp_path / "t")
    assert read_tally(tmp_path / "t") == usage(1)


def test_nobody_else_may_read_the_tallies(tmp_path: Path) -> None:
    path = written(tally_path(tmp_path / "tally", "3f2a", 0, 7), usage(1))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_every_tally_of_every_incarnation_is_found(tmp_path: Path) -> None:
    written(tally_path(tmp_path, "b", 1, 8), usage(2))
    written(tally_path(tmp_path, "a", 0, 7), usage(1))
    damaged = tally_path(tmp_path, "b", 0, 9)
    damaged.write_bytes(b"?")
    (tmp_path / "a" / "notes.txt").touch()
    (tmp_path / "stray").touch()
    found = [(tally.incarnation, tally.handler, tally.usage) for tally in tallies(tmp_path)]
    assert found == [
        ("a", handler_key(0, 7), usage(1)),
        ("b", handler_key(0, 9), None),
        ("b", handler_key(1, 8), usage(2)),
    ]


def test_a_directory_that_does_not_exist_has_no_tallies(tmp_path: Path) -> None:
    assert list(tallies(tmp_path / "nowhere")) == []


def test_a_full_disk_fails_when_the_file_is_made_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        TallyWriter(tmp_path / "t")
    assert list(tmp_path.iterdir()) == []
