"""The engine's supervision with real processes, sockets and signals, and a real ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.engine import Busy, Engine, EnginePlaces, Healthy, Launch, StateName
from plumised.engine.leftovers import EngineFile, EngineRecord
from plumised.engine.processes import ProcessId, engine_processes, session_processes
from plumised.ipc.messages import Phase, Usage
from plumised.ipc.tally import tallies
from plumised.ledger import LedgerThread, LedgerUnavailableError
from tests.integration.bench import DEADLINE_S, LAUNCH, POLICY, Bench, eventually, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from plumised.ledger import Proof


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerThread]:
    async with await LedgerThread.open(tmp_path / "ledger.sqlite", time.time) as ledger:
        yield ledger


def component(bench: Bench, main: int, name: str) -> int:
    """The pid of a part of the running engine."""
    if name == "main":
        return main
    if name == "p2pd":
        return next(process.id.pid for process in session_processes(main) if process.name == "p2pd")
    [incarnation] = (path for path in bench.places.tally_dir.iterdir() if path.name == bench.incarnations[-1])
    return int(next(incarnation.glob("handler-0-*")).stem.rpartition("-")[2])


async def test_an_engine_serves_tells_where_it_stands_and_leaves_nothing(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger)
    async with running(engine):
        seen = await until(engine, lambda now: now.serving and now.handlers == 2 and isinstance(now.health, Healthy))
        assert (seen.phase, seen.start, seen.end, seen.total_blocks) == (Phase.ONLINE, 0, 2, 6)
        assert (seen.peer_id, seen.dtype, seen.device, seen.restarts, seen.cause) == (
            "12D3KooW",
            "float32",
            "cpu",
            0,
            None,
        )
    assert engine.snapshot().state is StateName.IDLE
    assert bench.nothing_left()


async def test_what_was_replied_is_in_the_ledger_while_serving_and_after_it(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger)
    async with running(engine):
        await until(engine, lambda now: now.serving)
        bench.work(40)
        await until(engine, lambda now: now.usage.inference.tokens == 40)
        bench.work(2)
        await eventually(lambda: bench.replies() == 42)
    assert (await ledger.totals()).tokens == 42
    assert list(tallies(bench.places.tally_dir)) == []


@pytest.mark.parametrize("part", ["main", "handler", "p2pd"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_part_that_is_killed_or_stopped_is_noticed_and_the_engine_serves_again(
    bench: Bench, ledger: LedgerThread, part: str, number: signal.Signals
) -> None:
    engine = bench.engine(ledger)
    async with running(engine):
        before = await until(engine, lambda now: now.serving and now.handlers == 2)
        assert before.pid is not None
        bench.work(20)
        await eventually(lambda: bench.replies() > 0)
        os.kill(component(bench, before.pid, part), number)
        await until(engine, lambda now: now.serving and now.incarnation != before.incarnation)
        await eventually(lambda: not list(bench.directory.glob("work-*")))
        assert engine.snapshot().restarts == 1
    # A handler may have counted what it could not reply any more; never the other way round.
    assert bench.replies() <= (await ledger.totals()).tokens <= bench.replies() + 2
    assert bench.nothing_left()


async def test_an_engine_that_keeps_dying_is_failed_with_its_cause_and_last_lines(
    bench: Bench, ledger: LedgerThread
) -> None:
    engine = bench.engine(ledger, "crash")
    async with running(engine):
        seen = await until(engine, lambda now: now.state is StateName.FAILED)
        assert seen.cause is not None
        assert seen.cause.code == "disk-full"
        assert any("No space left on device" in line for line in seen.cause.evidence)
        assert len(bench.incarnations) == POLICY.crash_loop_failures
        assert seen.next_try_s is not None
    assert bench.nothing_left()


async def test_a_permanent_failure_is_failed_at_once_and_a_restart_tries_again(
    bench: Bench, ledger: LedgerThread
) -> None:
    engine = bench.engine(ledger, "refuse")
    async with running(engine):
        seen = await until(engine, lambda now: now.state is StateName.FAILED)
        assert seen.cause is not None
        assert (seen.cause.code, seen.cause.remedy) == ("span", "Set engine.blocks.")
        assert len(bench.incarnations) == 1
        engine.restart()
        await until(engine, lambda now: now.state is StateName.FAILED and now.restarts == 1)


async def test_an_engine_of_another_version_is_told_from_a_crash(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger, "future")
    async with running(engine):
        seen = await until(engine, lambda now: now.state is StateName.FAILED)
        assert seen.cause is not None
        assert seen.cause.code == "engine-version"


async def test_an_engine_that_stops_while_loading_is_started_again(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger, "sleepy")
    async with running(engine):
        seen = await until(engine, lambda now: now.cause is not None)
        assert seen.cause is not None
        assert seen.cause.code == "engine-stuck"
        await until(engine, lambda now: now.restarts >= 1)
    assert bench.nothing_left()


async def test_a_slow_start_is_waited_for(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger, "slow")
    async with running(engine):
        seen = await until(engine, lambda now: now.phase is Phase.LOADING)
        assert (seen.state, seen.block, seen.blocks) == (StateName.STARTING, 0, 2)
        (bench.directory / "loaded").touch()
        await until(engine, lambda now: now.serving)
        assert engine.snapshot().restarts == 0


async def test_a_start_without_progress_ends(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger, "slow", replace(POLICY, start_timeout_s=1.0))
    async with running(engine):
        seen = await until(engine, lambda now: now.cause is not None)
        assert seen.cause is not None
        assert seen.cause.code == "engine-no-progress"


async def test_a_busy_engine_is_never_killed(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger, policy=replace(POLICY, stuck_s=1.0, absent_s=10.0))
    async with running(engine):
        before = await until(engine, lambda now: now.serving)
        (bench.directory / "spin").touch()
        await until(engine, lambda now: isinstance(now.health, Busy))
        (bench.directory / "calm").touch()
        after = await until(engine, lambda now: isinstance(now.health, Healthy))
        assert (after.pid, after.restarts) == (before.pid, 0)


@pytest.mark.parametrize("model", ["deaf", "careless"])
async def test_an_engine_that_does_not_clean_up_leaves_nothing_either(
    bench: Bench, ledger: LedgerThread, model: str
) -> None:
    engine = bench.engine(ledger, model, replace(POLICY, stop_timeout_s=1.0))
    async with running(engine):
        await until(engine, lambda now: now.serving and now.handlers == 2)
    assert bench.nothing_left()


async def test_an_engine_that_has_not_said_hello_is_not_interrupted_but_ended(
    bench: Bench, ledger: LedgerThread
) -> None:
    # Python answers a SIGINT that comes before anything is prepared for it with a traceback in the log.
    engine = bench.engine(ledger, "mute")
    async with running(engine):
        await eventually((bench.directory / "mute").exists)
    assert not (bench.directory / "interrupted").exists()
    assert bench.nothing_left()


async def test_garbage_on_the_socket_harms_nobody_else(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger, "flood")
    async with running(engine):
        await until(engine, lambda now: now.serving)
        bench.work(20)
        # Who connects last may be in line behind the garbage.
        seen = await until(engine, lambda now: now.usage.inference.tokens == 20 and now.handlers == 2)
        assert seen.restarts == 0


async def test_a_restart_is_a_new_incarnation_and_no_failure(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger)
    async with running(engine):
        before = await until(engine, lambda now: now.serving)
        bench.work(5)
        await eventually(lambda: bench.replies() == 5)
        engine.restart()
        after = await until(engine, lambda now: now.serving and now.incarnation != before.incarnation)
        assert (after.restarts, after.failures, after.cause) == (1, 0, None)
        assert (await ledger.totals()).tokens == 5


@pytest.mark.parametrize("state", [StateName.STARTING, StateName.BACKOFF])
async def test_stop_wins_at_any_point(bench: Bench, ledger: LedgerThread, state: StateName) -> None:
    slow = replace(POLICY, first_backoff_s=600.0, longest_backoff_s=600.0, crash_loop_failures=100)
    engine = bench.engine(ledger, "crash" if state is StateName.BACKOFF else "slow", slow)
    async with running(engine):
        await until(engine, lambda now: now.state is state)
    assert engine.snapshot().state is StateName.IDLE
    assert bench.nothing_left()


async def test_stopped_before_it_runs_it_starts_nothing(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(ledger)
    engine.stop()
    await asyncio.wait_for(engine.run(), DEADLINE_S)
    assert bench.incarnations == []


async def test_cancelled_it_leaves_no_process_and_the_next_one_finds_the_usage(
    bench: Bench, ledger: LedgerThread
) -> None:
    engine = bench.engine(ledger)
    task = asyncio.create_task(engine.run())
    await until(engine, lambda now: now.serving)
    bench.work(5)
    await eventually(lambda: bench.replies() == 5)
    task.cancel()
    await asyncio.wait([task])
    await eventually(lambda: not [p for p in engine_processes(None, bench.incarnations[0]) if not p.ended])
    following = bench.engine(ledger)
    async with running(following):
        await until(following, lambda now: now.serving)
    assert (await ledger.totals()).tokens == 5
    assert bench.nothing_left()


@pytest.mark.parametrize("kind", ["missing", "directory", "text"])
async def test_without_an_engine_environment_it_is_failed_and_names_the_package(
    bench: Bench, ledger: LedgerThread, kind: str
) -> None:
    python = bench.directory / "python"
    if kind == "directory":
        python.mkdir()
    if kind == "text":
        python.write_text("no program")
        python.chmod(0o755)
    engine = bench.engine(ledger, launch=Launch(python, {}))
    async with running(engine):
        seen = await until(engine, lambda now: now.state is StateName.FAILED)
        assert seen.cause is not None
        assert seen.cause.code == "engine-missing"
        assert "plumise-engine-petals" in seen.cause.remedy
        assert str(python) in seen.cause.message


async def test_an_environment_without_the_engine_is_told_from_a_crash(bench: Bench, ledger: LedgerThread) -> None:
    launch = Launch(Path(sys.executable), {}, ("-I", "-S", "-m", "petals"))
    engine = bench.engine(ledger, launch=launch)
    async with running(engine):
        seen = await until(engine, lambda now: now.state is StateName.FAILED)
        assert seen.cause is not None
        assert seen.cause.code == "engine-environment"


class Hesitant:
    """A sink that refuses at first, as a ledger on a full disk does."""

    def __init__(self, ledger: LedgerThread, refusals: int) -> None:
        self.ledger = ledger
        self.refusals = refusals

    def hesitate(self) -> None:
        if self.refusals > 0:
            self.refusals -= 1
            raise LedgerUnavailableError("the disk is full", "Make room.")

    async def record_usage(self, incarnation: str, handler: str, usage: Usage) -> None:
        self.hesitate()
        await self.ledger.record_usage(incarnation, handler, usage)

    async def add_proofs(self, proofs: Iterable[Proof]) -> None:
        self.hesitate()
        await self.ledger.add_proofs(proofs)

    async def close_incarnation(self, incarnation: str) -> None:
        self.hesitate()
        await self.ledger.close_incarnation(incarnation)


async def test_what_the_ledger_refuses_is_kept_until_it_takes_it(bench: Bench, ledger: LedgerThread) -> None:
    sink = Hesitant(ledger, 10**9)
    engine = bench.engine(sink)
    async with running(engine):
        await until(engine, lambda now: now.serving)
        bench.work(7)
        await until(engine, lambda now: now.usage.inference.tokens == 7)
        engine.restart()
        await until(engine, lambda now: now.serving and now.restarts == 1)
        assert (await ledger.totals()).tokens == 0
        sink.refusals = 3
        await eventually(lambda: sink.refusals == 0)
        bench.work(1)
    assert bench.replies() <= (await ledger.totals()).tokens <= 8
    assert bench.replies() >= 7


async def test_what_the_ledger_never_took_is_taken_by_the_next_daemon(bench: Bench, ledger: LedgerThread) -> None:
    engine = bench.engine(Hesitant(ledger, 10**9))
    async with running(engine):
        await until(engine, lambda now: now.serving)
        bench.work(7)
        await eventually(lambda: bench.replies() == 7)
    assert (await ledger.totals()).tokens == 0
    following = bench.engine(ledger)
    async with running(following):
        await until(following, lambda now: now.serving)
        assert (await ledger.totals()).tokens == 7


DAEMON = """
import asyncio, sys, time
from pathlib import Path
from plumised.ledger import LedgerThread
from tests.integration.bench import Bench

async def main(directory: Path, prefix: str) -> None:
    async with await LedgerThread.open(directory / "ledger.sqlite", time.time) as ledger:
        await Bench(directory, prefix).engine(ledger).run()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


async def test_the_engine_of_a_killed_daemon_is_ended_by_the_next_and_its_work_counted(bench: Bench) -> None:
    root = Path(__file__).parents[2]
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(bench.directory), f"{bench.prefix}-killed"], cwd=root)
    try:
        await eventually(lambda: len(list(bench.places.tally_dir.glob("*/*.tally"))) == 2)
        bench.work(30)
        await eventually(lambda: bench.replies() > 0)
    finally:
        daemon.kill()
        daemon.wait()
    leftover = EngineFile(bench.places.engine_file).read()
    assert leftover is not None
    await eventually(lambda: bench.replies() == 30)
    assert session_processes(leftover.main.pid) != ()

    async with await LedgerThread.open(bench.directory / "ledger.sqlite", time.time) as ledger:
        engine = bench.engine(ledger)
        async with running(engine):
            await until(engine, lambda now: now.serving)
            assert [p for p in engine_processes(leftover.main.pid, leftover.incarnation) if not p.ended] == []
            assert (await ledger.totals()).tokens == 30
    assert bench.nothing_left()


async def test_a_process_that_only_has_the_pid_of_an_old_engine_is_left_alone(
    bench: Bench, ledger: LedgerThread
) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    try:
        EngineFile(bench.places.engine_file).write(EngineRecord(ProcessId(stranger.pid, 1), f"{bench.prefix}-old"))
        engine = bench.engine(ledger)
        async with running(engine):
            await until(engine, lambda now: now.serving)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_children_of_a_leader_that_is_gone_are_found_by_their_environment(
    bench: Bench, ledger: LedgerThread
) -> None:
    old = f"{bench.prefix}-old"
    command = 'sleep 600 & echo "$!"'
    environment = {"PATH": os.environ["PATH"], "PLUMISED_INCARNATION": old}
    leader = subprocess.Popen(
        ["/bin/sh", "-c", command], stdout=subprocess.PIPE, env=environment, start_new_session=True
    )
    assert leader.stdout is not None
    orphan = int(leader.stdout.readline())
    leader.stdout.close()
    leader.wait()
    EngineFile(bench.places.engine_file).write(EngineRecord(ProcessId(leader.pid, 1), old))
    engine = bench.engine(ledger)
    async with running(engine):
        await until(engine, lambda now: now.serving)
    assert [p for p in engine_processes(None, old) if p.id.pid == orphan and not p.ended] == []


async def test_a_file_of_the_daemon_that_cannot_be_written_is_a_failure_with_its_name(
    bench: Bench, ledger: LedgerThread
) -> None:
    places = EnginePlaces(bench.places.socket, bench.directory / "nowhere" / "engine.pid", bench.places.tally_dir)
    engine = Engine(LAUNCH, bench.job("serve"), places, ledger, POLICY, name=bench.name)
    async with running(engine):
        seen = await until(engine, lambda now: now.cause is not None)
        assert seen.cause is not None
        assert seen.cause.code == "engine-files"
        assert str(places.engine_file) in seen.cause.message
    assert bench.nothing_left()
