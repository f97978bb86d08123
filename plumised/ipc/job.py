"""The settings that the daemon writes to the engine's standard input. They hold no secret."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from plumised.ipc.messages import PROTOCOL
from plumised.ipc.typed import ShapeError, build, parse_object


class JobError(ValueError):
    """The settings are not what this engine takes: another protocol, or fields that are missing, unknown or wrong."""


@dataclass(frozen=True, slots=True)
class EngineJob:
    """What one incarnation of the engine is to do. Paths are absolute.

    Attributes:
        protocol: the daemon's `PROTOCOL`.
        incarnation: identifier of this life, for `Hello` and the tally files.
        socket: path of the daemon's unix socket.
        tally_dir: directory of the tallies, see `tally.tally_path`.
        runtime_dir: for sockets and scratch files that need not outlive the engine.
        cache_dir: for the model's files.
        hidden: files and directories that the engine must not get at, see `plumised.petals.sandbox`.
        sandbox: `auto` (with what the kernel has), `required` (not without all that confines files and system calls)
            or `off`.
        model: name on the hub, or absolute path of a directory.
        revision: of the model on the hub; None for its default branch.
        offline: never ask the hub.
        hub_url: of the hub; None for the default one.
        prefix: of the swarm's keys in the DHT; None to derive it from the model.
        first_block: first block of the span; given together with `last_block`, or both None.
        last_block: block after the last of the span.
        num_blocks: how many blocks to serve, where the swarm needs them; None with no span means all that fit.
        device: `auto`, or as torch names it.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        quantization: `none`, `int8` or `nf4`.
        handlers: connection handler processes.
        threads: that compute; None leaves it to torch.
        fast_path: compute what the fast path covers without Petals' own blocks.
        attention_cache_tokens: per block; None for the engine's default.
        max_batch_size: tokens per batch; None for the engine's default.
        throughput: steps per second to announce; None to measure.
        bandwidth_mbps: of the network, for the announced throughput; None to measure.
        cache_limit_bytes: most bytes of `cache_dir`; None for no limit.
        listen: multiaddresses to listen on.
        announce: multiaddresses to announce; empty for those listened on.
        initial_peers: multiaddresses of peers, each with its peer id.
        new_swarm: start a swarm; excludes `initial_peers`.
        identity_file: libp2p private key; made if missing.
        public_name: shown to the swarm; None for none.
        use_relay: reach and be reached through relays.
        allow_pickle: load checkpoints that are pickles.
        join_timeout_s: seconds to find a peer before the attempt counts as failed.
        proofs: digest the hidden states of every request, see `proofs`.
        drain_timeout_s: seconds that open sessions may still last when the engine is asked to stop.
    """

    incarnation: str
    socket: str
    tally_dir: str
    runtime_dir: str
    cache_dir: str
    model: str
    identity_file: str
    protocol: int = PROTOCOL
    hidden: tuple[str, ...] = ()
    sandbox: str = "auto"
    revision: str | None = None
    offline: bool = False
    hub_url: str | None = None
    prefix: str | None = None
    first_block: int | None = None
    last_block: int | None = None
    num_blocks: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    handlers: int = 4
    threads: int | None = None
    fast_path: bool = True
    attention_cache_tokens: int | None = None
    max_batch_size: int | None = None
    throughput: float | None = None
    bandwidth_mbps: float | None = 100.0
    cache_limit_bytes: int | None = None
    listen: tuple[str, ...] = ()
    announce: tuple[str, ...] = ()
    initial_peers: tuple[str, ...] = ()
    new_swarm: bool = False
    public_name: str | None = None
    use_relay: bool = False
    allow_pickle: bool = False
    proofs: bool = True
    join_timeout_s: float = 60.0
    drain_timeout_s: float = 0.0

    def to_json(self) -> str:
        """The settings as one JSON object."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> EngineJob:
        """Read what `to_json` wrote.

        Raises:
            JobError: the text is something else, or the daemon speaks another protocol.
        """
        try:
            members = parse_object(text)
            if members.get("protocol") != PROTOCOL:
                raise JobError(
                    f"the daemon speaks protocol {members.get('protocol')}, this engine {PROTOCOL}: "
                    "plumise-node and plumise-engine-petals must have the same version"
                )
            return build(cls, members)
        except ShapeError as error:
            raise JobError(f"the settings on standard input are wrong: {error}") from None
