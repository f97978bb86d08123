"""A real engine in its own process and session, started as the daemon starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from plumised.ipc.job import EngineJob
from plumised.ipc.messages import Counters, Phase, State, Usage
from plumised.ipc.proofs import ServedRequest, read_segment, segments
from plumised.ipc.tally import tallies
from tests.petals.recorder import Recorder
from tests.petals.waiting import DEADLINE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plumised.ipc.messages import Refused

ROOT: Final = Path(__file__).resolve().parents[2]
ENGINE_PYTHON: Final = ROOT / "build/env/engine/bin/python"
ENTRY_POINT: Final = ("-m", "plumised.petals")


@dataclass(frozen=True)
class Process:
    """One process of a session."""

    pid: int
    name: str
    state: str
    arguments: tuple[str, ...]


def session(leader: int) -> list[Process]:
    """The living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(FileNotFoundError, ProcessLookupError):
            # The name may hold spaces and parentheses; nothing after it does.
            head, _, tail = (entry / "stat").read_text(errors="replace").rpartition(")")
            state, _, _, of_session = tail.split()[:4]
            if int(of_session) != leader or state in "ZX":
                continue
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            found.append(Process(int(entry.name), head.partition("(")[2], state, tuple(arguments[:-1])))
    return found


def total(usages: Sequence[Usage]) -> Usage:
    """What several handlers served together, without the time that it took."""
    sums: Counter[tuple[str, str]] = Counter()
    for usage in usages:
        for kind in fields(Usage):
            counters = getattr(usage, kind.name)
            for field in ("requests", "steps", "tokens"):
                sums[kind.name, field] += getattr(counters, field)
    return Usage(
        **{
            kind.name: Counters(**{field: sums[kind.name, field] for field in ("requests", "steps", "tokens")})
            for kind in fields(Usage)
        }
    )


class EngineProcess:
    """An engine, its directories and the recorder on its socket. A context manager: nothing of it is left after.

    Args:
        model: directory or name on the hub.
        arguments: of the Python interpreter.
        python: the interpreter.
        refusal: what the recorder answers instead of a welcome.
        directory: that of an engine that has ended, to go on from what it left; None for a new one.
        settings: what it finds on its standard input instead of the job.
        changes: of the job.
    """

    def __init__(
        self,
        model: Path | str,
        *,
        arguments: Sequence[str] = ENTRY_POINT,
        python: Path = ENGINE_PYTHON,
        refusal: Refused | None = None,
        directory: Path | None = None,
        settings: str | None = None,
        **changes: Any,
    ) -> None:
        self._cleanup = ExitStack()
        # Short, for the sockets of p2pd; pytest's own directories have long names.
        self.directory = directory or Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="plm-")))
        job = EngineJob(
            incarnation="life-1",
            socket=str(self.directory / "s"),
            tally_dir=str(self.directory / "tally"),
            runtime_dir=str(self.directory / "run"),
            cache_dir=str(self.directory / "cache"),
            model=str(model),
            identity_file=str(self.directory / "identity.key"),
            offline=True,
            prefix="test",
            handlers=2,
            threads=1,
            throughput=10.0,
            listen=("/ip4/127.0.0.1/tcp/0",),
            new_swarm="initial_peers" not in changes,
        )
        self.job = replace(job, **changes)
        self._settings = self.job.to_json() if settings is None else settings
        self.recorder = Recorder(self.directory / "s", refusal=refusal)
        self._arguments = (str(python), *arguments)
        self.log_file = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.push(self.__exit__)
            self._cleanup.enter_context(self.recorder)
            self._start()
            stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            for process in session(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            self._process.wait()
            eventually(lambda: not session(self.pid), "the engine's session has ended")
        self._cleanup.close()

    def _start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(self._settings.encode())
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        """Of the process that leads the session."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return self.log_file.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process."""
        os.kill(self.pid, number)

    def processes(self) -> list[Process]:
        """What lives of it."""
        return session(self.pid)

    def process(self, name: str) -> Process:
        """The one process of this name."""
        (found,) = [process for process in self.processes() if process.name == name]
        return found

    def ended(self, deadline_s: float = DEADLINE_S) -> int:
        """Wait for the main process; its exit status."""
        assert self._process is not None
        try:
            return self._process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the engine still runs after {deadline_s:.0f} s:\n{self.log[-3000:]}") from None

    def running(self) -> None:
        """Raise if the main process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            status = self._process.returncode
            raise AssertionError(f"the engine ended with {status}:\n{self.recorder.failures()}\n{self.log[-3000:]}")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that the recorder hears while the engine runs."""
        self.recorder.wait(condition, what, alive=self.running)

    def reached(self, phase: Phase, since: int = 0) -> State:
        """Wait for a phase; the first state of it."""

        def first() -> State | None:
            return next((state for state in self.recorder.states(since) if state.phase is phase), None)

        return self.recorder.wait(first, f"the engine is {phase}", alive=self.running)

    def online(self) -> State:
        """Wait until it serves and every handler has said hello."""
        state = self.reached(Phase.ONLINE)
        self.wait(lambda: len(set(self.recorder.hellos())) > self.job.handlers, "every handler has said hello")
        return state

    def tallied(self) -> Usage:
        """What its handlers have on disk, together."""
        found = [tally.usage for tally in tallies(Path(self.job.tally_dir))]
        return total([usage for usage in found if usage is not None])

    def proven(self) -> list[ServedRequest]:
        """What its handlers have on disk of every request, as far as it is counted."""
        directory = Path(self.job.tally_dir)
        found: list[ServedRequest] = []
        for tally in tallies(directory):
            assert tally.usage is not None
            counted = sum(getattr(tally.usage, kind.name).steps for kind in fields(Usage))
            for segment in segments(directory):
                if (segment.incarnation, segment.handler) == (tally.incarnation, tally.handler):
                    content = read_segment(segment.path, counted)
                    assert content is not None
                    found += content.requests
        return found

    def reported(self, since: int = 0) -> Usage:
        """What its handlers have said last over the socket, together."""
        return total(list(self.recorder.usages(since).values()))
