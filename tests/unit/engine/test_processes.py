"""What the kernel says of processes, and signals that reach the right one."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumised.engine.processes import (
    OOM_SCORE_ADJ,
    ProcessId,
    end_all,
    engine_processes,
    identify,
    offer_to_oom_killer,
    oom_kills,
    read_process,
    send_signal,
    session_processes,
)

LIFE = uuid.uuid4().hex
PATIENCE_S = 30.0


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env={"PLUMISED_INCARNATION": LIFE}) as process:
        yield process
        process.kill()


def test_a_process_is_read_as_it_is() -> None:
    own = read_process(os.getpid())
    assert own is not None
    assert (own.id.pid, own.parent, own.session, own.state, own.ended) == (
        os.getpid(),
        os.getppid(),
        os.getsid(0),
        "R",
        False,
    )
    assert own.cpu_s == pytest.approx(sum(os.times()[:2]), abs=0.5)


def test_a_name_with_parentheses_and_spaces_does_not_confuse_the_reading(tmp_path: Path) -> None:
    program = tmp_path / "a) b (c"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        found = read_process(process.pid)
        process.kill()
    assert found is not None
    assert (found.id.pid, found.parent) == (process.pid, os.getpid())


def test_a_process_that_was_reaped_is_not_there(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    assert read_process(sleeper.pid) is None
    assert identify(sleeper.pid) is None


def test_a_process_that_was_not_reaped_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    found = read_process(sleeper.pid)
    assert found is not None
    assert found.ended


async def test_a_process_whose_first_thread_has_left_is_alive_and_is_ended_with_the_others() -> None:
    leaving = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    with subprocess.Popen([sys.executable, "-c", leaving], start_new_session=True) as process:
        deadline = time.monotonic() + PATIENCE_S
        while (found := read_process(process.pid)) is not None and found.state != "Z":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert found is not None
        assert not found.ended
        assert await end_all(process.pid, LIFE, process.pid, PATIENCE_S, time.monotonic) == ()
        assert process.wait(PATIENCE_S) == -signal.SIGKILL


def test_an_engine_is_found_by_its_session_and_by_its_environment(sleeper: subprocess.Popen[bytes]) -> None:
    by_session = [process.id.pid for process in session_processes(sleeper.pid)]
    by_both = [process.id.pid for process in engine_processes(sleeper.pid, "another-life")]
    by_environment = [process.id.pid for process in engine_processes(None, LIFE)]
    assert by_session == by_both == by_environment == [sleeper.pid]


@pytest.mark.parametrize("session", [0, 1, os.getsid(0)])
def test_the_sessions_of_the_kernel_and_of_the_daemon_are_never_an_engine(session: int) -> None:
    with pytest.raises(ValueError, match="no engine"):
        engine_processes(session, LIFE)


def test_a_signal_reaches_the_process_that_is_meant(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert send_signal(process, signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL
    assert not send_signal(process, signal.SIGKILL)


def test_a_signal_never_reaches_another_process_with_the_same_pid(sleeper: subprocess.Popen[bytes]) -> None:
    process = identify(sleeper.pid)
    assert process is not None
    assert not send_signal(ProcessId(process.pid, process.start_time + 1), signal.SIGKILL)
    assert sleeper.poll() is None


def test_an_engine_goes_before_others_when_memory_runs_out(sleeper: subprocess.Popen[bytes]) -> None:
    offer_to_oom_killer(sleeper.pid)

    offered = int(Path(f"/proc/{sleeper.pid}/oom_score_adj").read_text(encoding="ascii"))
    assert offered == OOM_SCORE_ADJ > int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))


def test_offering_a_process_that_has_ended_does_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()

    offer_to_oom_killer(sleeper.pid)


def test_kills_for_want_of_memory_are_read_from_the_control_group(tmp_path: Path) -> None:
    group = tmp_path / "system.slice" / "plumised.service"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    membership = tmp_path / "cgroup"
    membership.write_text("0::/system.slice/plumised.service\n")
    assert oom_kills(tmp_path, membership) == 2
    assert oom_kills(tmp_path / "nowhere", membership) == 0


def test_kills_are_read_from_the_memory_controller_of_version_1_as_well(tmp_path: Path) -> None:
    group = tmp_path / "memory" / "system.slice" / "plumised.service"
    group.mkdir(parents=True)
    (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n")
    membership = tmp_path / "cgroup"
    membership.write_text(
        "4:memory:/system.slice/plumised.service\n1:name=systemd:/a\n0::/system.slice/plumised.service\n"
    )
    assert oom_kills(tmp_path, membership) == 4
