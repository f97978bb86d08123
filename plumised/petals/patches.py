"""Everything that is changed in petals and hivemind, in one table: what, why, and what it relies on.

Each entry replaces one attribute of an upstream module or class before the server is built. `relies_on` names the
upstream code whose behaviour the replacement assumes; a test compares its fingerprint, so that another version does not
slip in beneath it unread.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hivemind.p2p import P2P
from hivemind.utils.timed_storage import TimedStorage
from petals.server.backend import TransformerBackend, _MergedInferenceStep
from petals.server.memory_cache import MemoryCache
from petals.server.reachability import ReachabilityProtocol
from petals.server.task_pool import PrioritizedTaskPool
from petals.server.throughput import get_server_throughput

from plumised.petals.counting import counting_handler
from plumised.petals.fast.caching import AttentionCache
from plumised.petals.fast.pools import StepPool
from plumised.petals.fast.serving import FastInferenceStep, fast_backend
from plumised.petals.guard.backlog import followed
from plumised.petals.guard.cache import drained_cache
from plumised.petals.guard.handler import guarded
from plumised.petals.guard.nesting import bounded_extensions
from plumised.petals.guard.storage import BoundedStorage, bounded_find, bounded_store, bounded_store_request
from plumised.petals.guard.unary import handle_persistent_request
from plumised.petals.loading import block_loader, repo_file_loader
from plumised.petals.p2pd import started_p2pd
from plumised.petals.progress import probed_runtime, progress_backend
from plumised.petals.threads import single_threaded, with_threads

if TYPE_CHECKING:
    from hivemind import DHT
    from petals.server.server import ModuleContainer

    from plumised.ipc.job import EngineJob
    from plumised.petals.counting import ActiveRequests
    from plumised.petals.fast.kernel import Kernel
    from plumised.petals.progress_counter import RuntimeProgress
    from plumised.petals.reporting import StateReporter


@dataclass(frozen=True, slots=True)
class Patch:
    """One change.

    Attributes:
        target: dotted name of the attribute that is replaced.
        reason: why upstream's own does not do.
        relies_on: dotted names of upstream code that the replacement builds on.
    """

    target: str
    reason: str
    relies_on: tuple[str, ...]


_FUSED: Final = (
    "petals.models.bloom.block.WrappedBloomBlock",
    "petals.models.falcon.block",
    "petals.models.llama.block",
    "transformers.models.bloom.modeling_bloom.BloomBlock",
    "transformers.models.bloom.modeling_bloom.BloomAttention",
    "transformers.models.bloom.modeling_bloom.BloomMLP",
    "transformers.models.bloom.modeling_bloom.bloom_gelu_forward",
    "transformers.models.bloom.modeling_bloom.build_alibi_tensor",
    "transformers.models.falcon.modeling_falcon.FalconLinear",
    "transformers.models.falcon.modeling_falcon.FalconMLP",
    "transformers.models.llama.modeling_llama.LlamaAttention",
    "transformers.models.llama.modeling_llama.LlamaLinearScalingRotaryEmbedding",
    "transformers.models.llama.modeling_llama.LlamaMLP",
    "transformers.models.llama.modeling_llama.LlamaRMSNorm",
    "transformers.models.llama.modeling_llama.LlamaRotaryEmbedding",
)
"""What the fast path takes apart, see `fast.fusing`."""

_GUARDED: Final = (
    "hivemind.compression.floating",
    "hivemind.compression.quantization",
    "hivemind.compression.serialization",
    "hivemind.p2p.p2p_daemon.P2P._add_protobuf_stream_handler",
    "hivemind.p2p.p2p_daemon.P2P.receive_protobuf",
    "hivemind.p2p.p2p_daemon.P2P.receive_raw_data",
    "hivemind.p2p.p2p_daemon.P2P.send_protobuf",
    "hivemind.p2p.p2p_daemon.P2P.send_raw_data",
    "petals.utils.packaging",
)
"""What strangers send goes through these, see `guard`."""

PATCHES: Final = (
    Patch(
        "petals.server.server.TransformerConnectionHandler",
        "counts and digests every step before its reply leaves, computes inference steps, passes results on to the "
        "next server with the metadata of their own step (upstream takes the first one's, so never does), refuses what "
        "is not well-formed and more than a peer may have at a time, beats, and dies with the main process",
        (
            "petals.server.handler.TransformerConnectionHandler",
            "petals.server.block_functions",
            "petals.utils.packaging.unpack_args_kwargs",
            "hivemind.compression.base.NoCompression",
            "hivemind.moe.server.connection_handler.ConnectionHandler.run",
            "hivemind.p2p.servicer.ServicerBase",
            "hivemind.utils.streaming.split_for_streaming",
            *_GUARDED,
        ),
    ),
    Patch(
        "petals.server.server.TransformerBackend",
        "counts the blocks that are computed, so that a long batch shows progress, and holds blocks that the "
        "fast path covers as it takes them",
        (
            "petals.server.backend.TransformerBackend",
            "petals.server.backend._MergedInferenceStep",
            "petals.utils.convert_block.convert_block",
            "petals.utils.convert_block.make_tensor_parallel",
            *_FUSED,
        ),
    ),
    Patch(
        "petals.server.backend._MergedInferenceStep",
        "computes steps by the fast path where that covers them; upstream builds masks and copies the cache per token",
        (
            "petals.server.backend._MergedInferenceStep",
            "petals.server.backend.merge_inference_pools_inplace",
            "petals.server.backend.TransformerBackend",
            "petals.server.block_functions",
            "petals.server.memory_cache.MemoryCache.use_cache",
            "petals.utils.misc.is_dummy",
        ),
    ),
    Patch(
        "petals.server.backend.PrioritizedTaskPool",
        "hands inference steps to the thread of the handler that computes; upstream hands all to the main process, "
        "through a queue, and its results come back through a pipe",
        (
            "petals.server.task_pool.PrioritizedTaskPool",
            "petals.server.backend.merge_inference_pools_inplace",
            "petals.server.backend.TransformerBackend",
            "petals.server.block_functions",
        ),
    ),
    Patch(
        "petals.server.server.MemoryCache",
        "keeps the attention cache in the handler that computes; upstream's is in the main process",
        ("petals.server.memory_cache.MemoryCache", "petals.server.handler.TransformerConnectionHandler"),
    ),
    Patch(
        "petals.server.task_pool.PrioritizedTaskPool.send_outputs_from_runtime",
        "keeps the sender's thread from opening a second OpenMP pool, which halves the runtime's speed",
        (
            "petals.server.task_pool.PrioritizedTaskPool.send_outputs_from_runtime",
            "hivemind.moe.server.runtime.Runtime",
        ),
    ),
    Patch(
        "petals.server.server.get_server_throughput",
        "measures with all threads in one that then ends, because the main thread has one only",
        ("petals.server.throughput.get_server_throughput", "petals.server.server.Server.__init__"),
    ),
    Patch(
        "petals.server.server.RuntimeWithDeduplicatedPools",
        "answers probes between batches; upstream cannot tell a stuck runtime from an idle one",
        (
            "hivemind.moe.server.runtime.Runtime",
            "petals.server.server.RuntimeWithDeduplicatedPools",
        ),
    ),
    Patch(
        "petals.server.server.ModuleContainer",
        "reports loading and online",
        ("petals.server.server.ModuleContainer", "petals.server.server.Server.run"),
    ),
    Patch(
        "petals.server.server.load_pretrained_block",
        "reports each loaded block, and names what a checkpoint lacks",
        ("petals.server.from_pretrained.load_pretrained_block",),
    ),
    Patch(
        "petals.server.from_pretrained._load_state_dict_from_repo_file",
        "ends its retries, does not hide a damaged local file, and refuses pickles unless allowed",
        (
            "petals.server.from_pretrained._load_state_dict_from_repo_file",
            "petals.server.from_pretrained._load_state_dict_from_local_file",
            "petals.server.from_pretrained._load_state_dict_from_repo",
        ),
    ),
    Patch(
        "petals.server.throughput.measure_network_rps",
        "takes the bandwidth from the settings; upstream runs a speed test against hosts of the internet",
        ("petals.server.throughput.measure_network_rps", "petals.server.throughput.measure_throughput_info"),
    ),
    Patch(
        "petals.server.server.DHT",
        "dies with the main process",
        ("hivemind.dht.dht.DHT.run", "petals.server.server.Server.__init__"),
    ),
    Patch(
        "petals.server.server.ReachabilityProtocol",
        "runs a second p2pd, with which peers behind NAT test themselves, only where relays are in use",
        ("petals.server.reachability.ReachabilityProtocol.attach_to_dht", "petals.server.server.Server.shutdown"),
    ),
    Patch(
        "hivemind.p2p.p2p_daemon.P2P._UNIX_SOCKET_PREFIX",
        "keeps p2pd's control sockets in the engine's own directory, where a kill leaves nothing for others to find",
        ("hivemind.p2p.p2p_daemon.P2P.create", "hivemind.p2p.p2p_daemon.P2P.replicate"),
    ),
    Patch(
        "hivemind.p2p.p2p_daemon.P2P._make_process_args",
        "has the kernel end p2pd with the DHT process that started it; upstream leaves it behind with its port, and "
        "packed, so that all of it is memory of its own process",
        ("hivemind.p2p.p2p_daemon.P2P._make_process_args", "hivemind.p2p.p2p_daemon.P2P.create"),
    ),
    Patch(
        "hivemind.utils.serializer.MSGPackSerializer._decode_ext_types",
        "refuses deep nesting; upstream takes 40 KB of the C stack for each level, and a message of 2 KB ends the "
        "process",
        ("hivemind.utils.serializer.MSGPackSerializer",),
    ),
    Patch(
        "hivemind.p2p.p2p_daemon_bindings.control.ControlClient._handle_persistent_request",
        "forgets calls that were cancelled or are unknown, and answers where the reply is too long; upstream keeps and "
        "leaves them",
        (
            "hivemind.p2p.p2p_daemon_bindings.control.ControlClient._handle_persistent_request",
            "hivemind.p2p.p2p_daemon_bindings.control.ControlClient._read_from_persistent_conn",
        ),
    ),
    Patch(
        "petals.server.memory_cache.MemoryCache.__init__",
        "reads what handlers say of caches at once; upstream with the next step, and a hundred sessions without one "
        "stop every handler",
        ("petals.server.memory_cache.MemoryCache",),
    ),
    Patch(
        "petals.server.task_pool.PrioritizedTaskPool.submit_task",
        "counts what is still computed for a peer that has gone among its requests",
        ("petals.server.task_pool.PrioritizedTaskPool", "hivemind.utils.mpfuture.MPFuture"),
    ),
    Patch(
        "hivemind.dht.protocol.DHTLocalStorage",
        "bounds what peers store in this node's part of the DHT",
        ("hivemind.dht.storage", "hivemind.dht.protocol.DHTProtocol.create"),
    ),
    Patch(
        "hivemind.utils.timed_storage.TimedStorage.store",
        "keeps one expiration of each entry; upstream keeps one of every attempt to store it, and lets an older one "
        "end the entry",
        ("hivemind.utils.timed_storage.TimedStorage",),
    ),
    Patch(
        "hivemind.dht.protocol.DHTProtocol.rpc_find",
        "bounds the keys of one request",
        ("hivemind.dht.protocol.DHTProtocol.rpc_find",),
    ),
    Patch(
        "hivemind.dht.protocol.DHTProtocol.rpc_store",
        "bounds the keys of one request",
        ("hivemind.dht.protocol.DHTProtocol.rpc_store",),
    ),
)


def apply_patches(
    job: EngineJob,
    progress: RuntimeProgress,
    active: ActiveRequests,
    *,
    threads: int,
    kernel: Kernel | None,
    container: type[ModuleContainer],
    dht: type[DHT],
    states: StateReporter,
) -> None:
    """Put every replacement of `PATCHES` in its place. Once per process."""
    replacements: dict[str, Any] = {
        "petals.server.server.TransformerConnectionHandler": guarded(counting_handler(job, active, progress, threads)),
        "petals.server.server.TransformerBackend": progress_backend(
            progress, fast_backend(job.quantization, native=kernel is not None) if job.fast_path else TransformerBackend
        ),
        "petals.server.backend._MergedInferenceStep": functools.partial(
            FastInferenceStep, kernel=kernel, progress=progress
        )
        if job.fast_path
        else _MergedInferenceStep,
        "petals.server.backend.PrioritizedTaskPool": StepPool if job.fast_path else PrioritizedTaskPool,
        "petals.server.server.MemoryCache": AttentionCache if job.fast_path else MemoryCache,
        "petals.server.task_pool.PrioritizedTaskPool.send_outputs_from_runtime": single_threaded(
            PrioritizedTaskPool.send_outputs_from_runtime
        ),
        "petals.server.server.get_server_throughput": with_threads(threads, get_server_throughput),
        "petals.server.server.RuntimeWithDeduplicatedPools": probed_runtime(progress, threads),
        "petals.server.server.ModuleContainer": container,
        "petals.server.server.load_pretrained_block": block_loader(states.block_loaded),
        "petals.server.from_pretrained._load_state_dict_from_repo_file": repo_file_loader(
            allow_pickle=job.allow_pickle
        ),
        "petals.server.throughput.measure_network_rps": functools.partial(_configured_network_rps, job.bandwidth_mbps),
        "petals.server.server.DHT": dht,
        "petals.server.server.ReachabilityProtocol": ReachabilityProtocol if job.use_relay else _NoReachability,
        "hivemind.p2p.p2p_daemon.P2P._UNIX_SOCKET_PREFIX": f"/unix{job.runtime_dir}/hivemind-",
        "hivemind.p2p.p2p_daemon.P2P._make_process_args": staticmethod(started_p2pd(P2P._make_process_args)),  # noqa: SLF001 -- what is replaced
        "hivemind.utils.serializer.MSGPackSerializer._decode_ext_types": bounded_extensions(),
        "hivemind.p2p.p2p_daemon_bindings.control.ControlClient._handle_persistent_request": handle_persistent_request,
        "petals.server.memory_cache.MemoryCache.__init__": drained_cache(),
        "petals.server.task_pool.PrioritizedTaskPool.submit_task": followed(PrioritizedTaskPool.submit_task),
        "hivemind.dht.protocol.DHTLocalStorage": BoundedStorage,
        "hivemind.utils.timed_storage.TimedStorage.store": bounded_store(TimedStorage.store),
        "hivemind.dht.protocol.DHTProtocol.rpc_find": bounded_find(),
        "hivemind.dht.protocol.DHTProtocol.rpc_store": bounded_store_request(),
    }
    for patch in PATCHES:
        owner, name = _owner(patch.target)
        setattr(owner, name, replacements.pop(patch.target))
    if replacements:
        raise AssertionError(f"replacements without an entry in the table: {sorted(replacements)}")


def fingerprint(dotted_name: str) -> str:
    """Digest of upstream source code, equal as long as its text is.

    Raises:
        AttributeError: upstream has no such name any more.
    """
    owner, name = _owner(dotted_name)
    source = textwrap.dedent(inspect.getsource(getattr(owner, name)))
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _owner(dotted_name: str) -> tuple[Any, str]:
    """The module or class that holds an attribute, and the attribute's name."""
    parts = dotted_name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:-1]:
            owner = getattr(owner, part)
        if not hasattr(owner, parts[-1]):
            break
        return owner, parts[-1]
    raise AttributeError(f"upstream has no {dotted_name}")


class _NoReachability:
    """In the place of petals' `ReachabilityProtocol`: answers no questions, needs no p2pd."""

    @classmethod
    def attach_to_dht(cls, _dht: DHT) -> None:
        """Start nothing; petals' server then has nothing to shut down."""


def _configured_network_rps(bandwidth_mbps: float | None, config: Any, **_options: Any) -> float:
    """Steps per second that the network carries, at 16 bits for each value of a hidden state, as petals computes it."""
    return (bandwidth_mbps or _DEFAULT_MBPS) * 1e6 / (int(config.hidden_size) * 16)


_DEFAULT_MBPS: Final = 100.0
"""What petals assumes when its speed test fails."""
