"""One incarnation of the engine, from its spawn until nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from plumised.engine.causes import Cause, Exit, diagnose
from plumised.engine.errors import UnseenError
from plumised.engine.health import judge
from plumised.engine.launch import EngineProcess, Launch, spawn
from plumised.engine.leftovers import EngineFile, EngineRecord
from plumised.engine.processes import end_all, engine_processes, kill_all, oom_kills, session_processes
from plumised.engine.pulse import Pulse
from plumised.engine.shared_memory import forget_tensors
from plumised.errors import PlumisedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.engine.health import Stuck, Verdict
    from plumised.engine.policy import EnginePolicy
    from plumised.engine.processes import ProcessStat
    from plumised.engine.server import EngineSocket
    from plumised.ipc.job import EngineJob
    from plumised.ipc.messages import Failure, Sandbox

LAST_WORDS_S: Final = 2.0
"""How long what ended processes said may take to arrive; the kernel has it already."""


class Life:
    """One incarnation. `run` it once; `end` may be called at any time.

    Attributes:
        incarnation: its identifier.
        pulse: what it showed so far.
        failure: why it says that it ends.
        verdict: the last verdict on its health.
        sandbox: what confines it, once it has said so.
    """

    def __init__(
        self,
        job: EngineJob,
        launch: Launch,
        file: EngineFile,
        policy: EnginePolicy,
        clock: Callable[[], float],
        attentive_now: float,
    ) -> None:
        self.incarnation = job.incarnation
        self.failure: Failure | None = None
        self.verdict: Verdict | None = None
        self.sandbox: Sandbox | None = None
        self._job = job
        self._file = file
        self._policy = policy
        self._clock = clock
        self._ailment: Stuck | None = None
        self._kill_at: float | None = None
        self._ordered = asyncio.Event()
        self._pids: set[int] = set()
        self._oom_kills = oom_kills()
        self._process: EngineProcess = spawn(launch, job.incarnation)
        self.pulse = Pulse(attentive_now, self.pid, job.handlers, policy)

    @property
    def pid(self) -> int:
        """Of the main process, which is also the session's number."""
        return self._process.id.pid

    def adopt(self, policy: EnginePolicy) -> None:
        """Judge it by this policy from now on."""
        self._policy = policy

    def examine(self, now: float) -> Verdict | None:
        """Look at its processes; the verdict on its health, or None if its main process has ended.

        Raises:
            UnseenError: they cannot be looked at.
        """
        processes = session_processes(self.pid)
        self._pids |= {process.id.pid for process in processes}
        if not any(process.id == self._process.id and not process.ended for process in processes):
            # The other parts end with it, which is a consequence and no cause.
            return None
        self.pulse.sample(now, processes)
        self.verdict = judge(self.pulse.vitals(now), self._policy)
        return self.verdict

    def end(self, grace_s: float, ailment: Stuck | None = None) -> None:
        """End it within `grace_s` seconds in order, or by force after them; a later call can only hasten it."""
        until = self._clock() + grace_s
        self._kill_at = until if self._kill_at is None else min(until, self._kill_at)
        if not self._process.exited.is_set():
            self._ailment = self._ailment or ailment
        self._ordered.set()

    async def run(self, socket: EngineSocket) -> tuple[Cause, tuple[ProcessStat, ...]]:
        """Let it live until it ends or is ended.

        Returns:
            Why it ended, and which of its processes could not be ended.

        Raises:
            PlumisedError: it could not be given its settings, or the next daemon what it needs to find it.
        """
        try:
            await self._begin(socket)
            async with asyncio.TaskGroup() as group:
                relay = group.create_task(self._process.relay(), name="engine-output")
                try:
                    await self._until_ended()
                    remaining = await self._end_processes()
                    with contextlib.suppress(TimeoutError):
                        await socket.silence(LAST_WORDS_S)
                    # Something that left the session and the environment behind may hold the pipe for ever.
                    await asyncio.wait([relay], timeout=LAST_WORDS_S)
                finally:
                    relay.cancel()
            return diagnose(self._exit()), remaining
        finally:
            # Whatever happens to the daemon's tasks: no engine is left without its supervisor.
            # What cannot be seen is ended from the record of it, by the next life or the next daemon.
            with contextlib.suppress(UnseenError):
                kill_all(self.pid, self.incarnation)
            socket.expect(None)
            self._process.close()

    async def _begin(self, socket: EngineSocket) -> None:
        try:
            self._file.write(EngineRecord(self._process.id, self.incarnation))
            socket.expect(self.incarnation, self.pid)
            self._process.instruct(self._job)
        except PlumisedError:
            await self._end_processes()
            raise

    async def _end_processes(self) -> tuple[ProcessStat, ...]:
        """Kill what is left, and forget what it shared; returns what cannot be ended."""
        with contextlib.suppress(UnseenError):
            self._pids |= {process.id.pid for process in engine_processes(self.pid, self.incarnation)}
        remaining = await end_all(self.pid, self.incarnation, self.pid, self._policy.kill_timeout_s, self._clock)
        if not remaining:
            await self._process.exited.wait()
            forget_tensors(self._pids)
            self._file.remove()
        return remaining

    async def _until_ended(self) -> None:
        """Wait until the main process has ended, or its time to end in order is over."""
        exited, ordered = self._process.exited, self._ordered
        await _either(exited, ordered)
        if exited.is_set():
            return
        interrupted = False
        while self._kill_at is not None and not exited.is_set():
            grace = self._kill_at - self._clock()
            # Before its first word it has begun nothing that it could end in order, nor prepared for the signal.
            if grace <= 0 or not self.pulse.greeted:
                return
            if not interrupted:
                self._process.interrupt()
                interrupted = True
            ordered.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await _either(exited, ordered)

    def _exit(self) -> Exit:
        return Exit(
            status=self._process.status or 0,
            failure=self.failure,
            verdict=self._ailment,
            oom_killed=oom_kills() > self._oom_kills,
            lines=self._process.tail.lines,
        )


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Wait until one of two events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
