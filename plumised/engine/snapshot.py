"""What the rest of the daemon may know of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from plumised.engine import supervisor
from plumised.ipc.messages import Counters, Phase, Usage

if TYPE_CHECKING:
    from plumised.engine.causes import Cause
    from plumised.engine.health import Verdict
    from plumised.ipc.messages import Sandbox


NO_USAGE: Final = Usage(Counters(), Counters(), Counters())


class StateName(StrEnum):
    """The supervisor's states."""

    IDLE = "idle"
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """The engine at one moment. What is not known, or not true without an engine, is None, 0 or empty.

    Attributes:
        state: of the supervisor.
        state_s: seconds since it was entered.
        incarnation: of the engine that runs or ran last.
        pid: of the main process.
        phase: that the engine reported last.
        block: while loading, blocks loaded.
        blocks: while loading, blocks to load.
        start: first block of the span.
        end: block after the last of the span.
        total_blocks: blocks of the model.
        peer_id: libp2p identity.
        addresses: multiaddresses that peers can reach.
        dtype: of the computation.
        quantization: of the weights.
        device: as torch names it.
        path: who computes short steps, as `ipc.messages.State` has it.
        handlers: handler processes that are connected.
        health: the last verdict; None without an engine.
        sandbox: what confines the engine, once it has said so.
        usage: what this incarnation served so far, over all handlers.
        restarts: how often an engine was started again since the daemon started.
        failures: how often it failed since the last stable run.
        cause: of the last failure, while its effects last: None after a stable run.
        next_try_s: seconds until the next start, in backoff and failed.
    """

    state: StateName = StateName.IDLE
    state_s: float = 0.0
    incarnation: str | None = None
    pid: int | None = None
    phase: Phase | None = None
    block: int | None = None
    blocks: int | None = None
    start: int | None = None
    end: int | None = None
    total_blocks: int | None = None
    peer_id: str | None = None
    addresses: tuple[str, ...] = ()
    dtype: str | None = None
    quantization: str | None = None
    device: str | None = None
    path: str | None = None
    handlers: int = 0
    health: Verdict | None = None
    sandbox: Sandbox | None = None
    usage: Usage = NO_USAGE
    restarts: int = 0
    failures: int = 0
    cause: Cause | None = None
    next_try_s: float | None = None

    @property
    def serving(self) -> bool:
        """Whether requests are served at this moment."""
        return self.state is StateName.SERVING and self.phase is Phase.ONLINE


_NAMES: dict[type[supervisor.State], StateName] = {
    supervisor.Idle: StateName.IDLE,
    supervisor.Starting: StateName.STARTING,
    supervisor.Serving: StateName.SERVING,
    supervisor.Stopping: StateName.STOPPING,
    supervisor.Backoff: StateName.BACKOFF,
    supervisor.Failed: StateName.FAILED,
}


def state_name(state: supervisor.State) -> StateName:
    """The name of a state."""
    return _NAMES[type(state)]
