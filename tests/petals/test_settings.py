"""From the job to a process that petals and its libraries find as they need it."""

from __future__ import annotations

import json
import os
import resource
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.ipc.job import EngineJob
from plumised.petals.failures import EngineError
from plumised.petals.settings import clear_runtime_dir, library_environment, prepare_process

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def job() -> Iterator[EngineJob]:
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="plm-") as directory:
        yield EngineJob(
            incarnation="life-1",
            socket="/s",
            tally_dir=f"{directory}/tally",
            runtime_dir=f"{directory}/run",
            cache_dir=f"{directory}/cache/models",
            model="tiny/bloom",
            identity_file=f"{directory}/key",
        )
        tempfile.tempdir = before


def refused(job: EngineJob) -> EngineError:
    environment: dict[str, str] = {}
    with pytest.raises(EngineError) as raised:
        prepare_process(job, environment)
    assert raised.value.failure.permanent
    return raised.value


def test_directories_are_made_and_the_scratch_files_of_an_earlier_life_removed(job: EngineJob, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "hivemind-p2pd-old.sock").touch()
    (run / "pymp-old").mkdir()
    (run / "pymp-old" / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (run / "link").symlink_to(tmp_path / "elsewhere")
    prepare_process(replace(job, runtime_dir=str(run)), {})
    assert list(run.iterdir()) == []
    assert (tmp_path / "elsewhere" / "file").exists()
    assert Path(job.cache_dir).is_dir()


def test_the_runtime_directory_is_nobody_else_s(job: EngineJob) -> None:
    prepare_process(job, {})
    assert Path(job.runtime_dir).stat().st_mode & 0o777 == 0o700
    assert tempfile.gettempdir() == job.runtime_dir


def test_a_runtime_directory_that_is_not_there_is_clear(job: EngineJob) -> None:
    clear_runtime_dir(job)


def test_as_many_files_may_be_open_as_the_system_allows(job: EngineJob) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        prepare_process(job, {})
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_runtime_directory_too_long_for_unix_sockets_is_refused(job: EngineJob, tmp_path: Path) -> None:
    failure = refused(replace(job, runtime_dir=str(tmp_path / ("x" * 70)))).failure
    assert failure.code == "runtime-dir-too-long"
    assert "[node] runtime_dir" in failure.remedy
    assert not (tmp_path / ("x" * 70)).exists()


def test_the_longest_runtime_directory_that_passes_still_holds_p2pd_s_sockets(job: EngineJob) -> None:
    name = "hivemind-p2pclient-" + "x" * 11 + ".sock"
    directory = f"{job.runtime_dir}/"
    directory += "d" * (107 - len(directory) - 1 - len(name))
    prepare_process(replace(job, runtime_dir=directory), {})
    assert len(f"{directory}/{name}") == 107
    assert refused(replace(job, runtime_dir=f"{directory}d")).failure.code == "runtime-dir-too-long"


@pytest.mark.parametrize("which", ["runtime_dir", "cache_dir", "tally_dir"])
def test_a_directory_that_cannot_be_made_is_named(job: EngineJob, which: str) -> None:
    file = Path(job.runtime_dir).with_name("file")
    file.touch()
    below = str(file / "below")
    changed = EngineJob.from_json(json.dumps(json.loads(job.to_json()) | {which: below}))
    failure = refused(changed).failure
    assert failure.code == "directory-not-writable"
    assert below in failure.message


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_directory_that_is_not_writable_is_named(job: EngineJob, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    failure = refused(replace(job, cache_dir=str(tmp_path / "cache"))).failure
    assert failure.code == "directory-not-writable"
    assert str(tmp_path) in failure.message


@pytest.mark.parametrize(
    ("changes", "offline"),
    [({}, False), ({"offline": True}, True), ({"model": "/models/tiny"}, True)],
    ids=["hub", "offline", "directory"],
)
def test_the_hub_s_client_is_offline_when_told_so_or_when_it_has_nothing_to_fetch(
    job: EngineJob, changes: dict[str, object], offline: bool
) -> None:
    variables = library_environment(replace(job, **changes))  # type: ignore[arg-type]  # fields of a job
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        assert (variables.get(name) == "1") is offline


def test_everything_that_is_kept_or_scratched_is_in_the_engine_s_directories(job: EngineJob) -> None:
    paths = [value for value in library_environment(job).values() if value.startswith("/")]
    assert len(paths) >= 5
    assert all(path.startswith((job.cache_dir, job.runtime_dir)) for path in paths)


def test_hub_and_threads_are_set_only_where_the_job_says_so(job: EngineJob) -> None:
    assert {"HF_ENDPOINT", "OMP_NUM_THREADS"}.isdisjoint(library_environment(job))
    variables = library_environment(replace(job, hub_url="http://hub.example", threads=3))
    assert (variables["HF_ENDPOINT"], variables["OMP_NUM_THREADS"]) == ("http://hub.example", "3")


def test_torch_s_threads_sleep_where_the_fast_path_has_its_own(job: EngineJob) -> None:
    assert library_environment(replace(job, fast_path=True))["OMP_WAIT_POLICY"] == "passive"
    assert "OMP_WAIT_POLICY" not in library_environment(replace(job, fast_path=False))
