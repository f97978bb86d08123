"""The messages that the engine and the daemon exchange over the unix socket.

A connection belongs to one process of the engine: its main process, or one connection handler. The engine's process
opens it and sends `Hello`; the daemon answers `Welcome` or `Refused` and closes. From then on only the engine sends.
Everything that counts is cumulative, so any message may be repeated or lost without harm.

docs/architecture.md describes the protocol; `PROTOCOL` changes with every incompatible change of this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PROTOCOL = 1
"""Version of the socket's protocol. Both sides must have the same."""


class Role(StrEnum):
    """Which process of the engine speaks."""

    MAIN = "main"
    HANDLER = "handler"


class Phase(StrEnum):
    """What the engine is doing, in the order in which a life passes through it."""

    IMPORTING = "importing"
    JOINING = "joining"
    LOADING = "loading"
    ONLINE = "online"
    DRAINING = "draining"
    STOPPED = "stopped"


class Kind(StrEnum):
    """The kinds of RPC that the engine serves."""

    INFERENCE = "inference"
    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Counters:
    """Cumulative work of one kind.

    Attributes:
        requests: RPCs that had at least one step served.
        steps: passes of hidden states through the span; a forward or backward RPC is one step.
        tokens: batch size times sequence length, summed over the steps.
        service_us: microseconds from a step's tensors being ready to its result being ready, summed over the steps.
    """

    requests: int = 0
    steps: int = 0
    tokens: int = 0
    service_us: int = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of every connection.

    Attributes:
        protocol: the sender's `PROTOCOL`.
        incarnation: identifier of this life of the engine, given by the daemon in the settings.
        role: which process speaks.
        index: 0 for the main process, else the number of the handler, from 0.
        pid: the sender's process id, which must match the socket's peer credentials.
    """

    protocol: int
    incarnation: str
    role: Role
    index: int
    pid: int


@dataclass(frozen=True, slots=True)
class Welcome:
    """The daemon accepts the connection."""

    protocol: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The daemon refuses the connection and closes it.

    Attributes:
        code: stable reason: `protocol`, `incarnation`, `credentials` or `malformed`.
        message: for people.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Cumulative counters of one handler process since it started."""

    inference: Counters
    forward: Counters
    backward: Counters


@dataclass(frozen=True, slots=True)
class State:
    """Where the engine's main process stands. Fields that are not known yet are None or empty.

    Attributes:
        phase: what it does.
        block: while loading, how many blocks of the span are loaded.
        blocks: while loading, how many blocks the span has.
        start: first block of the span.
        end: block after the last of the span.
        total_blocks: blocks of the model.
        peer_id: libp2p identity, base58.
        addresses: multiaddresses that peers can reach, each with the peer id.
        dtype: `float32`, `bfloat16` or `float16`.
        quantization: of the weights, `none`, `int8` or `nf4`.
        device: as torch names it, `cpu` or `cuda:0`.
        path: who computes short steps, once blocks are served: `kernel-avx512`, `kernel-avx2`, `eager` or `petals`.
    """

    phase: Phase
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


class LayerName(StrEnum):
    """What confines the engine, see docs/sandbox.md."""

    FILES = "files"
    SIGNALS = "signals"
    SYSTEM_CALLS = "system-calls"
    NO_NEW_PRIVILEGES = "no-new-privileges"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the sandbox.

    Attributes:
        name: which.
        active: whether it is in force.
        detail: by what, or why not; for people.
    """

    name: LayerName
    active: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What confines the engine's processes; comes once from the main process. The sandbox may be off by settings.

    Attributes:
        layers: each of `LayerName`, in its order; empty where the settings want none.
        overlaps: what ought to be hidden and is not, with the reason; for people.
    """

    layers: tuple[Layer, ...] = ()
    overlaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """Proof of progress, about once a second from every process of the engine.

    Each number counts completed round trips and only grows; one that stands still means that this part has not
    answered since. From a handler only `loop` and `blocks` move.

    Attributes:
        loop: round trips through the sender's own event loop, and through its thread that computes if it has one
            (handler), or main thread's watch loop (main).
        runtime: probes that passed through the runtime thread's queue, between batches.
        blocks: transformer blocks computed in this process; grows within one long batch.
        dht: coroutines answered by the DHT process.
        p2pd: requests answered by p2pd over its control socket.
        dead: names of components that are known to have ended (`handler-1`, `dht`, `p2pd`, `runtime`).
    """

    loop: int = 0
    runtime: int = 0
    blocks: int = 0
    dht: int = 0
    p2pd: int = 0
    dead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the engine is about to exit, when it knows.

    Attributes:
        code: stable kebab-case identifier, documented in docs/reasons.md.
        message: what happened, with the values concerned.
        remedy: what the operator can do.
        permanent: whether starting again unchanged cannot help.
    """

    code: str
    message: str
    remedy: str
    permanent: bool


Message = Hello | Welcome | Refused | Usage | State | Sandbox | Beat | Failure
