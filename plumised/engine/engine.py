"""The engine as the rest of the daemon sees it: it is run, stopped, restarted, and looked at.

What to do is decided in `supervisor`; here it is done.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plumised.engine.causes import Cause, stuck
from plumised.engine.errors import LaunchError, RemainsError, UnseenError
from plumised.engine.health import Ailment, Stuck
from plumised.engine.leftovers import EngineFile, end_leftover
from plumised.engine.life import Life
from plumised.engine.policy import EnginePolicy
from plumised.engine.processes import become_subreaper
from plumised.engine.pulse import Attention
from plumised.engine.sandbox import log_sandbox
from plumised.engine.server import EngineSocket
from plumised.engine.snapshot import EngineSnapshot, state_name
from plumised.engine.supervisor import (
    End,
    Ended,
    Event,
    Idle,
    Online,
    Restart,
    Serving,
    Spawn,
    Start,
    Starting,
    Stop,
    Stopping,
    Supervision,
    Tick,
    Unhealthy,
    decide,
    next_time,
)
from plumised.engine.telling import tell
from plumised.engine.usage import UsageBook
from plumised.errors import OperatorError, PlumisedError
from plumised.events import LogEvent, told
from plumised.ipc.messages import Beat, Failure, Hello, Phase, Role, Sandbox, State, Usage
from plumised.ipc.tally import handler_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plumised.engine.launch import Launch
    from plumised.engine.processes import ProcessStat
    from plumised.engine.usage import UsageSink
    from plumised.ipc.job import EngineJob

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnginePlaces:
    """Where daemon and engine meet on disk.

    Attributes:
        socket: the unix socket, in a directory for this daemon alone.
        engine_file: names the running engine for the next daemon.
        tally_dir: the handlers' tallies. It must outlive the daemon's runtime directory.
    """

    socket: Path
    engine_file: Path
    tally_dir: Path


class Engine:
    """Keeps one engine running. Everything but construction happens in one event loop's thread, the main thread.

    Args:
        launch: how the engine's interpreter is started.
        job: gives the settings for an incarnation; may raise `PlumisedError`, which counts as a failed start.
        places: where daemon and engine meet on disk; the job must name the same.
        sink: where usage is kept.
        policy: the thresholds.
        clock: monotonic seconds.
        jitter: gives numbers from 0 to 1.
        name: gives a fresh incarnation's identifier.
    """

    def __init__(
        self,
        launch: Launch,
        job: Callable[[str], EngineJob],
        places: EnginePlaces,
        sink: UsageSink,
        policy: EnginePolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        name: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._launch = launch
        self._job = job
        self._places = places
        self._policy = policy or EnginePolicy()
        self._clock = clock
        self._jitter = jitter
        self._name = name
        self._file = EngineFile(places.engine_file)
        self._book = UsageBook(sink, places.tally_dir, self._policy.sink_retry_s, self._policy.proofs_s)
        self._attention = Attention(clock(), 3 * self._policy.tick_s)
        self._attentive_now = 0.0
        self._supervision = Supervision(since=clock())
        self._incarnation: str | None = None
        self._life: Life | None = None
        self._ailment: Stuck | None = None
        self._blind = False
        self._group = asyncio.TaskGroup()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._running = False
        self._stop_wanted = False

    async def run(self) -> None:
        """Keep the engine running until `stop`; nothing of it is left after that. Once only.

        Cancelled, it kills the engine at once; usage that is not kept yet then stays in the tallies for the next start.

        Raises:
            SocketError: the socket cannot be opened.
        """
        become_subreaper()
        async with EngineSocket(self._places.socket, self) as socket, self._group as group:
            book = [
                group.create_task(self._book.run(), name="engine-usage"),
                group.create_task(self._book.collect_proofs(), name="engine-proofs"),
            ]
            self._running = True
            self._socket = socket
            if not self._stop_wanted:
                self._dispatch(Start())
            while not (self._stop_wanted and isinstance(self._supervision.state, Idle)):
                await self._watch()
            for task in book:
                task.cancel()

    def stop(self) -> None:
        """End the engine in order, for good. `run` returns when nothing of it is left."""
        self._stop_wanted = True
        if self._running:
            self._dispatch(Stop())

    def restart(self) -> None:
        """End the engine in order and start it anew, at once and without regard to earlier failures."""
        if self._running:
            self._dispatch(Restart())

    def adopt(
        self, launch: Launch, job: Callable[[str], EngineJob], policy: EnginePolicy, *, restart: bool = False
    ) -> None:
        """Start engines so from now on, and watch the one that runs by this policy.

        Args:
            launch: see the class.
            job: see the class.
            policy: see the class.
            restart: whether the one that runs is ended for it, in order and in the time that it was promised.
        """
        if restart:
            self.restart()
        elif self._life is not None:
            self._life.adopt(policy)
        self._launch, self._job, self._policy = launch, job, policy

    def snapshot(self) -> EngineSnapshot:
        """The engine at this moment."""
        now = self._clock()
        life = self._life
        state = (life.pulse.state if life else None) or State(Phase.STOPPED)
        until = next_time(self._supervision)
        return EngineSnapshot(
            state=state_name(self._supervision.state),
            state_s=now - self._supervision.since,
            incarnation=self._incarnation,
            pid=life.pid if life else None,
            phase=life.pulse.state.phase if life and life.pulse.state else None,
            block=state.block,
            blocks=state.blocks,
            start=state.start,
            end=state.end,
            total_blocks=state.total_blocks,
            peer_id=state.peer_id,
            addresses=state.addresses,
            dtype=state.dtype,
            quantization=state.quantization,
            device=state.device,
            path=state.path,
            handlers=life.pulse.connected_handlers if life else 0,
            health=life.verdict if life else None,
            sandbox=life.sandbox if life else None,
            usage=self._book.usage,
            restarts=max(0, self._supervision.spawned - 1),
            failures=self._supervision.failures,
            cause=self._supervision.cause,
            next_try_s=None if until is None else max(0.0, until - now),
        )

    async def wait_for(self, predicate: Callable[[EngineSnapshot], bool], timeout_s: float) -> EngineSnapshot:
        """Wait until a snapshot satisfies the predicate, and return it.

        Raises:
            TimeoutError: none did in time.
        """
        async with asyncio.timeout(timeout_s):
            while not predicate(snapshot := self.snapshot()):
                await self._changed.wait()
        return snapshot

    def connected(self, sender: Hello) -> None:
        """See `server.Listener`."""
        if life := self._life_of(sender):
            life.pulse.connected(self._attentive_now, sender)
            self._notify()

    def disconnected(self, sender: Hello) -> None:
        """See `server.Listener`."""
        if life := self._life_of(sender):
            life.pulse.disconnected(self._attentive_now, sender)
            self._notify()

    def received(self, sender: Hello, message: Usage | State | Sandbox | Beat | Failure) -> None:
        """See `server.Listener`."""
        life = self._life_of(sender)
        if life is None:
            return
        if isinstance(message, Usage):
            self._book.take(sender.incarnation, handler_key(sender.index, sender.pid), message)
        elif isinstance(message, Failure):
            if sender.role is Role.MAIN or life.failure is None:
                life.failure = message
        elif isinstance(message, Sandbox):
            if message != life.sandbox:
                life.sandbox = message
                log_sandbox(message)
        else:
            life.pulse.hear(self._attentive_now, sender, message)
            if isinstance(message, State) and message.phase is Phase.ONLINE:
                self._dispatch(Online())
        self._notify()

    def _life_of(self, sender: Hello) -> Life | None:
        return self._life if self._life is not None and self._life.incarnation == sender.incarnation else None

    async def _watch(self) -> None:
        """Wait for the next tick, then look at the engine."""
        until = next_time(self._supervision)
        pause = self._policy.tick_s if until is None else min(self._policy.tick_s, max(0.0, until - self._clock()))
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        self._attentive_now = self._attention.look(self._clock())
        self._examine()
        self._dispatch(Tick())
        self._notify()

    def _examine(self) -> None:
        life = self._life
        if life is None:
            return
        try:
            verdict = life.examine(self._attentive_now)
        except UnseenError as error:
            # What cannot be seen is not judged.
            if not self._blind:
                _log.warning("%s", error)
            self._blind = True
            return
        self._blind = False
        if isinstance(verdict, Stuck) and isinstance(self._supervision.state, Starting | Serving):
            self._ailment = verdict
            answers = verdict.component not in {"main", "runtime"} or verdict.ailment is Ailment.NO_PROGRESS
            self._dispatch(Unhealthy(stuck(verdict), answers))

    def _dispatch(self, event: Event) -> None:
        before = self._supervision
        self._supervision, actions = decide(before, event, self._clock(), self._policy, self._jitter)
        for action in actions:
            match action:
                case Spawn():
                    self._ailment = None
                    self._group.create_task(self._live(), name="engine-life")
                case End(grace_s=grace_s):
                    if self._life is not None:
                        self._life.end(grace_s, self._ailment)
        if self._supervision.state != before.state:
            tell(self._supervision, self._clock(), self._incarnation)
            self._wake.set()
            self._notify()

    async def _live(self) -> None:
        """One incarnation, from clearing up after the last to the end of its bookkeeping; then `Ended`."""
        self._incarnation = incarnation = self._name()
        try:
            await self._clear_up()
            if isinstance(self._supervision.state, Stopping):
                self._dispatch(Ended(Cause("engine-exited", "the start was called off", "Nothing.")))
                return
            job = self._job(incarnation)
            self._book.begin(incarnation)
            life = Life(job, self._launch, self._file, self._policy, self._clock, self._attentive_now)
        except PlumisedError as error:
            self._dispatch(Ended(_cause_of(error)))
            return
        self._life = life
        spawned = told(LogEvent.ENGINE_SPAWNED, incarnation=incarnation, engine_pid=life.pid)
        _log.info("the engine's main process is %d, its incarnation %s", life.pid, incarnation, extra=spawned)
        try:
            cause, remaining = await life.run(self._socket)
        except PlumisedError as error:
            cause, remaining = _cause_of(error), ()
        finally:
            self._life = None
        await self._book.end(incarnation)
        self._dispatch(Ended(_remaining(remaining) if remaining else cause))

    async def _clear_up(self) -> None:
        record = await end_leftover(self._file, self._policy.kill_timeout_s, self._clock)
        if record is not None:
            _log.warning("ended what was left of the last engine, incarnation %s", record.incarnation)
            await self._book.end(record.incarnation)
        await self._book.end_others()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _cause_of(error: PlumisedError) -> Cause:
    permanent = isinstance(error, OperatorError | LaunchError)
    return Cause(error.code, error.message, error.remedy, permanent=permanent)


def _remaining(processes: tuple[ProcessStat, ...]) -> Cause:
    pids = ", ".join(str(process.id.pid) for process in processes)
    return Cause(
        RemainsError.code,
        f"processes of the engine cannot be ended: {pids}",
        "The kernel holds them, most often for a broken disk or GPU; if they stay, restart the machine.",
    )
