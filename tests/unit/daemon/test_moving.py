"""What an earlier version left in the state directory itself finds its place, and nothing that is counted is lost."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from plumised.config import Settings
from plumised.daemon.directories import DirectoryError, prepare
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.tally import TallyWriter, tallies, tally_path

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.daemon.directories import Places


def prepared(root: Path, identity_file: Path | None = None) -> Places:
    """The directories of a node, ready for a start."""
    tables: dict[str, dict[str, object]] = {
        "node": {"name": "any", **{f"{name}_dir": str(root / name) for name in ("state", "runtime", "cache")}}
    }
    if identity_file is not None:
        tables["swarm"] = {"identity_file": str(identity_file)}
    settings = Settings.model_validate(tables)
    return prepare(settings.node, settings.swarm.identity_file)


def write(directory: Path, incarnation: str, index: int, tokens: int) -> TallyWriter:
    """A tally as a handler writes it."""
    writer = TallyWriter(tally_path(directory, incarnation, index, 100 + index))
    writer.write(Usage(Counters(1, 1, tokens), Counters(), Counters()))
    return writer


def counted(directory: Path) -> dict[tuple[str, str], int]:
    """The tokens of every tally that can be read."""
    return {
        (tally.incarnation, tally.handler): tally.usage.inference.tokens
        for tally in tallies(directory)
        if tally.usage is not None
    }


def test_tallies_move_to_the_engines_part(tmp_path: Path) -> None:
    for incarnation, index in itertools.product(("one", "two"), (0, 1)):
        write(tmp_path / "state/tally", incarnation, index, 10 + index).close()
    places = prepared(tmp_path)
    assert sorted(counted(places.tally).values()) == [10, 10, 11, 11]
    assert not (tmp_path / "state/tally").exists()
    assert places.tally == tmp_path / "state/engine/tally"


def test_an_engine_that_still_runs_goes_on_counting_in_what_was_moved(tmp_path: Path) -> None:
    writer = write(tmp_path / "state/tally", "one", 0, 1)
    places = prepared(tmp_path)
    writer.write(Usage(Counters(2, 2, 7), Counters(), Counters()))
    assert list(counted(places.tally).values()) == [7]
    writer.close()


def test_a_version_that_came_back_for_a_while_loses_nothing(tmp_path: Path) -> None:
    places = prepared(tmp_path)
    write(places.tally, "one", 0, 1).close()
    write(tmp_path / "state/tally", "one", 1, 2).close()
    write(tmp_path / "state/tally", "two", 0, 4).close()
    prepared(tmp_path)
    assert sorted(counted(places.tally).values()) == [1, 2, 4]


def test_a_move_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    write(tmp_path / "state/tally", "one", 0, 1).close()
    write(tmp_path / "state/tally", "one", 1, 2).close()
    half = tmp_path / "state/engine/tally/one"
    half.mkdir(parents=True)
    first = min((tmp_path / "state/tally/one").iterdir())
    first.rename(half / first.name)
    assert sorted(counted(prepared(tmp_path).tally).values()) == [1, 2]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    write(tmp_path / "state/engine/tally", "one", 0, 1).close()
    write(tmp_path / "state/tally", "one", 0, 2).close()
    with pytest.raises(DirectoryError, match=r"handler-0-100\.tally cannot be moved"):
        prepared(tmp_path)
    assert list(counted(tmp_path / "state/tally").values()) == [2]
    assert list(counted(tmp_path / "state/engine/tally").values()) == [1]


def test_tallies_on_another_place_by_a_link_move_too(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", "one", 0, 3).close()
    (tmp_path / "state").mkdir()
    (tmp_path / "state/tally").symlink_to(tmp_path / "elsewhere")
    assert list(counted(prepared(tmp_path).tally).values()) == [3]
    assert not (tmp_path / "state/tally").is_symlink()


def test_the_identity_moves_to_where_it_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    old = tmp_path / "state/identity.key"
    old.write_bytes(b"key")
    places = prepared(tmp_path)
    assert (places.engine_state / "identity.key").read_bytes() == b"key"
    assert not old.exists()


@pytest.mark.parametrize("name", ["state/identity.key", "elsewhere.key"])
def test_an_identity_that_the_settings_name_stays_where_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/identity.key").write_bytes(b"key")
    places = prepared(tmp_path, tmp_path / name)
    assert (tmp_path / "state/identity.key").read_bytes() == b"key"
    assert not (places.engine_state / "identity.key").exists()


def test_an_identity_that_is_there_already_wins(tmp_path: Path) -> None:
    places = prepared(tmp_path)
    (places.engine_state / "identity.key").write_bytes(b"mine")
    (tmp_path / "state/identity.key").write_bytes(b"other")
    prepared(tmp_path)
    assert (places.engine_state / "identity.key").read_bytes() == b"mine"
    assert (tmp_path / "state/identity.key").read_bytes() == b"other"


def test_the_engines_part_is_its_owners_alone(tmp_path: Path) -> None:
    places = prepared(tmp_path)
    assert {place.stat().st_mode & 0o777 for place in (places.engine_state, places.tally)} == {0o700}
