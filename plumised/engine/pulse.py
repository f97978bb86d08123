"""Collects what health judges: when each part of the engine last advanced, and when its processes last worked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from plumised.engine.health import Part, Vitals
from plumised.ipc.messages import Beat, Failure, Hello, Phase, Role, State, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from plumised.engine.policy import EnginePolicy
    from plumised.engine.processes import ProcessId, ProcessStat

_STOPPED: Final = frozenset("TtZXx")


class Attention:
    """A clock that stands still while its owner does not look.

    If the daemon itself was stopped or starved, the engine's messages of that time are still unread, so that time
    must not count as the engine's silence.
    """

    def __init__(self, now: float, longest_step: float) -> None:
        self._last = now
        self._longest_step = longest_step
        self._time = 0.0

    def look(self, now: float) -> float:
        """The attentive time at `now`; it grows by `longest_step` at most from one look to the next."""
        self._time += min(max(now - self._last, 0.0), self._longest_step)
        self._last = now
        return self._time


@dataclass(slots=True)
class _Mark:
    advanced_at: float
    worked_at: float
    dead: bool = False


@dataclass(slots=True)
class _Reported:
    """A part that the main process reports; its time is that of the reports."""

    advanced_at: float
    worked_at: float


@dataclass(slots=True)
class _Handler:
    hello: Hello
    mark: _Mark
    loop: int = -1
    gone_since: float | None = None


@dataclass(slots=True)
class Pulse:
    """What one incarnation showed so far. Times are those of one `Attention`.

    Attributes:
        started_at: when it was spawned.
        main: pid of its main process.
        handlers: how many handlers it ought to have.
        policy: what counts as working.
        greeted: whether its main process has ever been connected.
    """

    started_at: float
    main: int
    handlers: int
    policy: EnginePolicy
    state: State | None = None
    greeted: bool = False
    _beat: Beat = field(default_factory=Beat)
    _main: _Mark = field(init=False)
    _reports: Attention = field(init=False)
    _reported_now: float = 0.0
    _reported: dict[str, _Reported] = field(default_factory=dict)
    _handlers: dict[int, _Handler] = field(default_factory=dict)
    _progress_at: float = 0.0
    _io_since_progress: int = 0
    _online_at: float | None = None
    _samples: dict[ProcessId, tuple[float, ProcessStat]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._main = _Mark(self.started_at, self.started_at)
        # While the main process is silent nobody speaks for the others, which may be well.
        self._reports = Attention(self.started_at, self.policy.stuck_s / 4)
        self._progress_at = self.started_at

    @property
    def connected_handlers(self) -> int:
        """How many handlers have a connection."""
        return sum(handler.gone_since is None for handler in self._handlers.values())

    def connected(self, now: float, sender: Hello) -> None:
        """A process opened its connection."""
        if sender.role is Role.MAIN:
            self.greeted = True
            self._main.advanced_at = now
            return
        known = self._handlers.get(sender.index)
        if known is not None and known.hello == sender:
            known.gone_since = None
        else:
            self._handlers[sender.index] = _Handler(sender, _Mark(now, now))

    def disconnected(self, now: float, sender: Hello) -> None:
        """A connection ended."""
        known = self._handlers.get(sender.index)
        if sender.role is Role.HANDLER and known is not None and known.hello == sender:
            known.gone_since = now

    def hear(self, now: float, sender: Hello, message: Usage | State | Beat | Failure) -> None:
        """A process said something."""
        if isinstance(message, State):
            self._hear_state(now, message)
        elif isinstance(message, Beat):
            if sender.role is Role.MAIN:
                self._hear_main(now, message)
            else:
                self._hear_handler(now, sender, message)

    def _hear_state(self, now: float, state: State) -> None:
        if self.state is None or (state.phase, state.block) != (self.state.phase, self.state.block):
            self._progress_at = now
        if state.phase is Phase.ONLINE and (self.state is None or self.state.phase is not Phase.ONLINE):
            self._online_at = now
            self._main.advanced_at = now
            for part in self._reported.values():
                part.advanced_at = self._reported_now
        self.state = state

    def _hear_main(self, now: float, beat: Beat) -> None:
        before, self._beat = self._beat, beat
        advanced = {
            "runtime": beat.runtime > before.runtime or beat.blocks > before.blocks,
            "dht": beat.dht > before.dht,
            "p2pd": beat.p2pd > before.p2pd,
        }
        if beat.loop > before.loop:
            self._main.advanced_at = now
        self._reported_now = self._reports.look(now)
        for name, moved in advanced.items():
            part = self._reported.setdefault(name, _Reported(self._reported_now, now))
            if moved:
                part.advanced_at = self._reported_now

    def _hear_handler(self, now: float, sender: Hello, beat: Beat) -> None:
        known = self._handlers.get(sender.index)
        if known is not None and known.hello == sender and beat.loop > known.loop:
            known.loop = beat.loop
            known.mark.advanced_at = now

    def sample(self, now: float, processes: Sequence[ProcessStat]) -> None:
        """Look at the engine's processes, all of them."""
        working = {process.id.pid for process in processes if self._works(now, process)}
        self._note_io(now, processes)
        self._samples = {process.id: (now, process) for process in processes}
        if self.main in working:
            self._main.worked_at = now
        by_part = self._processes_by_part(processes)
        for name, part in self._reported.items():
            if working & by_part[name]:
                part.worked_at = now
        living = {process.id.pid for process in processes if not process.ended}
        for handler in self._handlers.values():
            if handler.hello.pid in working:
                handler.mark.worked_at = now
            handler.mark.dead = handler.hello.pid not in living

    def _works(self, now: float, process: ProcessStat) -> bool:
        if process.state in _STOPPED:
            return False
        if process.id not in self._samples:
            return True
        then, before = self._samples[process.id]
        elapsed = now - then
        return process.state == "D" or (
            elapsed > 0
            and (
                (process.cpu_s - before.cpu_s) / elapsed >= self.policy.working_cpu
                or (process.io_bytes - before.io_bytes) / elapsed >= self.policy.working_io_bytes_per_s
            )
        )

    def _note_io(self, now: float, processes: Iterable[ProcessStat]) -> None:
        for process in processes:
            before = self._samples.get(process.id)
            self._io_since_progress += process.io_bytes - (before[1].io_bytes if before else 0)
        if self._io_since_progress >= self.policy.loading_io_bytes:
            self._progress_at = now
            self._io_since_progress = 0

    def _processes_by_part(self, processes: Iterable[ProcessStat]) -> dict[str, set[int]]:
        known = {self.main, *(handler.hello.pid for handler in self._handlers.values())}
        others = [process for process in processes if process.id.pid not in known]
        # The DHT's process has no name of its own: it is among those that are none of the others.
        return {
            "runtime": {self.main},
            "p2pd": {process.id.pid for process in others if process.name.startswith("p2pd")},
            "dht": {process.id.pid for process in others if not process.name.startswith("p2pd")},
        }

    def vitals(self, now: float) -> Vitals:
        """What was observed until now."""
        parts = [Part("main", now - self._main.advanced_at, now - self._main.worked_at, "main" in self._beat.dead)]
        parts += [
            Part(name, self._reported_now - part.advanced_at, now - part.worked_at, name in self._beat.dead)
            for name, part in self._reported.items()
        ]
        for index, handler in sorted(self._handlers.items()):
            name, mark = f"handler-{index}", handler.mark
            dead = mark.dead or name in self._beat.dead
            parts.append(Part(name, now - mark.advanced_at, now - mark.worked_at, dead))
        known = {part.name for part in parts}
        parts += [Part(name, 0.0, 0.0, dead=True) for name in self._beat.dead if name not in known]
        phase = self.state.phase if self.state else None
        return Vitals(now, phase, self._progress_at, tuple(parts), self._absent())

    def _absent(self) -> tuple[tuple[str, float], ...]:
        if self._online_at is None:
            return ()
        absent: list[tuple[str, float]] = []
        for index in range(self.handlers):
            handler = self._handlers.get(index)
            if handler is None:
                absent.append((f"handler-{index}", self._online_at))
            elif handler.gone_since is not None:
                absent.append((f"handler-{index}", handler.gone_since))
        return tuple(absent)
