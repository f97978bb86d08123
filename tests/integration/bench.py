"""What the tests of the supervisor share: an engine of real processes around the stand-in, and a real ledger."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from plumised.engine import Engine, EnginePlaces, EnginePolicy, Launch
from plumised.engine.processes import engine_processes, read_process
from plumised.ipc.job import EngineJob

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from plumised.engine import EngineSnapshot, UsageSink

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")
DEADLINE_S = 60.0
"""Far beyond what anything here takes; a test that gets there has failed."""

POLICY = EnginePolicy(
    tick_s=0.05,
    stuck_s=3.0,
    starting_stuck_s=3.0,
    absent_s=3.0,
    stop_timeout_s=20.0,
    unhealthy_stop_s=0.5,
    first_backoff_s=0.05,
    longest_backoff_s=0.2,
    crash_loop_s=0.0,
    sink_retry_s=0.05,
)


@dataclass
class Bench:
    """One node's directory."""

    directory: Path
    prefix: str = field(default_factory=lambda: uuid.uuid4().hex)
    incarnations: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def places(self) -> EnginePlaces:
        return EnginePlaces(self.directory / "engine.sock", self.directory / "engine.pid", self.directory / "tally")

    def name(self) -> str:
        self.incarnations.append(f"{self.prefix}-{len(self.incarnations)}")
        return self.incarnations[-1]

    def job(self, model: str, handlers: int = 2) -> Callable[[str], EngineJob]:
        def job(incarnation: str) -> EngineJob:
            return EngineJob(
                incarnation=incarnation,
                socket=str(self.places.socket),
                tally_dir=str(self.places.tally_dir),
                runtime_dir=str(self.directory),
                cache_dir=str(self.directory),
                model=model,
                identity_file=str(self.directory / "identity.key"),
                handlers=handlers,
            )

        return job

    def engine(
        self, sink: UsageSink, model: str = "serve", policy: EnginePolicy = POLICY, launch: Launch | None = None
    ) -> Engine:
        return Engine(launch or LAUNCH, self.job(model), self.places, sink, policy, name=self.name)

    def work(self, count: int) -> None:
        """Give the handlers work; each piece is one token."""
        for _ in range(count):
            (self.directory / f"work-{next(self._numbers)}").touch()

    def replies(self) -> int:
        """How many pieces of work were answered, over all handlers that ever were."""
        return sum(path.stat().st_size for path in self.directory.glob("served-*"))

    def nothing_left(self) -> bool:
        """No process, socket or record of any engine is left."""
        left = [process for name in self.incarnations for process in engine_processes(None, name)]
        zombies = [pid for pid in map(int, children()) if (process := read_process(pid)) and process.ended]
        return not left and not zombies and not self.places.socket.exists() and not self.places.engine_file.exists()


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


LAUNCH = Launch(Path(sys.executable), {"PYTHONPATH": str(FAKE_ENGINE.parents[2])}, ("-u", str(FAKE_ENGINE)))


@contextlib.asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[asyncio.Task[None]]:
    """Run an engine; stop it at the end."""
    task = asyncio.create_task(engine.run())
    try:
        yield task
        engine.stop()
        await asyncio.wait_for(task, DEADLINE_S)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(engine: Engine, predicate: Callable[[EngineSnapshot], bool]) -> EngineSnapshot:
    return await engine.wait_for(predicate, DEADLINE_S)


async def eventually(condition: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
