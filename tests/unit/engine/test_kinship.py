"""Who is of the engine: in a process table that a test writes, and in the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.engine.kinship import LONGEST_LINE, Seen, Sight, Unseen, is_of_engine, look
from plumised.engine.processes import INCARNATION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DAEMON, ENGINE, HANDLER, SHELL, COMMAND = 100, 200, 201, 300, 301


def table(changes: Mapping[int, Sight] | None = None) -> Callable[[int], Sight]:
    """A machine with a daemon, its engine and an operator; the engine has wiped its environment."""
    processes: dict[int, Sight] = {
        1: Seen(0, 1, 0),
        DAEMON: Seen(1, DAEMON, 10),
        ENGINE: Seen(DAEMON, ENGINE, 20),
        HANDLER: Seen(ENGINE, ENGINE, 30),
        SHELL: Seen(1, SHELL, 15),
        COMMAND: Seen(SHELL, SHELL, 40),
    }
    return lambda pid: {**processes, **(changes or {})}.get(pid, Unseen.GONE)


def test_what_the_daemon_has_started_is_of_the_engine() -> None:
    assert is_of_engine(ENGINE, DAEMON, table())
    assert is_of_engine(HANDLER, DAEMON, table())


def test_an_operators_command_is_not() -> None:
    assert not is_of_engine(COMMAND, DAEMON, table())


def test_a_command_that_init_or_a_service_manager_has_started_is_not() -> None:
    assert not is_of_engine(400, DAEMON, table({400: Seen(1, 400, 50)}))


def test_a_process_that_left_its_session_and_lost_its_parent_is() -> None:
    assert is_of_engine(400, DAEMON, table({400: Seen(DAEMON, 400, 50)}))


def test_the_daemon_itself_is_not() -> None:
    assert not is_of_engine(DAEMON, DAEMON, table())


def test_a_process_outside_of_the_pid_namespace_is_not() -> None:
    assert not is_of_engine(0, DAEMON, table())


def test_a_process_that_has_ended_is_in_doubt() -> None:
    assert is_of_engine(999, DAEMON, table())


def test_a_process_of_another_user_that_proc_does_not_show_is_not() -> None:
    assert not is_of_engine(400, DAEMON, table({400: Unseen.FOREIGN}))
    assert not is_of_engine(401, DAEMON, table({400: Unseen.FOREIGN, 401: Seen(400, 401, 60)}))


def test_a_process_that_hides_or_has_a_parent_that_hides_is() -> None:
    assert is_of_engine(400, DAEMON, table({400: Unseen.HIDING}))
    assert is_of_engine(401, DAEMON, table({400: Unseen.HIDING, 401: Seen(400, 401, 60)}))


@pytest.mark.parametrize(
    "left",
    [
        {400: Seen(1, 400, 50, marked=True)},
        {400: Seen(1, 399, 50), 399: Seen(1, 399, 40, marked=True)},
        {400: Seen(399, 400, 50), 399: Seen(1, 399, 40, marked=True)},
    ],
    ids=["itself", "its session", "its parent"],
)
def test_what_a_killed_daemons_engine_left_is_known_by_its_environment(left: dict[int, Sight]) -> None:
    assert is_of_engine(400, DAEMON, table(left))


def test_a_parent_that_is_younger_than_its_child_is_another_process() -> None:
    sights: Iterator[Sight] = iter([Seen(399, 400, 50), Unseen.GONE, Seen(300, 300, 90), Seen(DAEMON, 400, 50)])
    assert is_of_engine(400, DAEMON, lambda _pid: next(sights))


def test_a_line_without_end_is_in_doubt() -> None:
    assert is_of_engine(10_000, DAEMON, lambda pid: Seen(pid + 1, pid, 0))


@given(st.lists(st.integers(1000, 5000), min_size=1, max_size=LONGEST_LINE - 2, unique=True))
def test_however_long_the_line_is_it_leads_to_the_daemon(line: list[int]) -> None:
    parents = [*line[1:], DAEMON]
    family: dict[int, Sight] = {
        pid: Seen(parent, pid, 1000 - age) for age, (pid, parent) in enumerate(zip(line, parents, strict=True))
    }
    assert is_of_engine(line[0], DAEMON, table(family))


def test_in_the_real_table_a_child_of_this_process_is_of_its_engine_and_its_own_ancestors_are_not() -> None:
    with subprocess.Popen(["/bin/sleep", "60"]) as child:
        try:
            assert is_of_engine(child.pid, os.getpid())
            assert not is_of_engine(os.getppid(), os.getpid())
        finally:
            child.kill()
    assert look(child.pid) is Unseen.GONE


def test_a_real_process_shows_that_it_has_an_engines_environment() -> None:
    program = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={INCARNATION_VARIABLE: "life"},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read(1) == b"x"
        seen = look(child.pid)
        child.communicate()
    assert isinstance(seen, Seen)
    assert seen.marked
    assert seen.parent == os.getpid()
