"""One petals server, made from the daemon's job, that reports, counts, drains and stops in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import psutil
import torch
from hivemind import DHT
from petals.constants import DTYPE_MAP, PUBLIC_INITIAL_PEERS
from petals.server import server as petals_server
from petals.server.block_utils import get_block_size
from petals.server.server import ModuleContainer, Server
from petals.utils.convert_block import QuantType

from plumised.petals.lifeline import die_with_parent, name_process
from plumised.petals.loading import load_config
from plumised.petals.patches import apply_patches
from plumised.petals.preflight import check_identity, check_ports, check_span

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from plumised.ipc.job import EngineJob
    from plumised.petals.progress_counter import RuntimeProgress
    from plumised.petals.pulse import Pulse
    from plumised.petals.reporting import StateReporter

_UPDATE_PERIOD_S: Final = 30.0
_DRAIN_POLL_S: Final = 0.1
_SHARE_OF_MEMORY: Final = 0.6
"""Share of the available memory that the blocks may take on a CPU when the settings do not say how many."""


class Engine:
    """Builds the server and runs it until it is asked to stop.

    Args:
        job: what to serve, and where.
        states: takes the changes of state.
        pulse: is told what to watch.
        progress: where the runtime thread counts.
    """

    def __init__(self, job: EngineJob, states: StateReporter, pulse: Pulse, progress: RuntimeProgress) -> None:
        self._job = job
        self._states = states
        self._pulse = pulse
        self._active = multiprocessing.Array("i", job.handlers, lock=False)
        self._server: Server | None = None
        self._container: ModuleContainer | None = None
        self._stopping = threading.Event()
        apply_patches(job, progress, self._active, container=self._container_class(), dht=_linked_dht(), states=states)

    def run(self) -> None:
        """Serve until SIGINT.

        Raises:
            EngineError: something that was checked is wrong.
            KeyboardInterrupt: stopped before it served.
        """
        job = self._job
        config = load_config(job)
        total = int(config.num_hidden_layers)
        check_span(job, total)
        check_identity(job)
        check_ports(job)
        self._states.joining(total)
        self._server = server = Server(**server_arguments(job, config))
        try:
            self._pulse.watch_dht(server.dht)
            self._states.joined(
                server.dht.peer_id.to_base58(),
                [str(address) for address in server.dht.get_visible_maddrs()],
                str(server.torch_dtype).removeprefix("torch."),
                str(server.device),
            )
            server.run()
        finally:
            server.shutdown()

    def interrupt(self) -> None:
        """What SIGINT does: drain and stop when serving, stop at once otherwise or when asked again.

        Raises:
            KeyboardInterrupt: to leave whatever the main thread is doing.
        """
        if self._stopping.is_set() or self._container is None or self._server is None:
            raise KeyboardInterrupt
        self._stopping.set()
        threading.Thread(
            target=self._drain, args=(self._server, self._container), name="plumised-drain", daemon=True
        ).start()

    def _drain(self, server: Server, container: ModuleContainer) -> None:
        self._states.draining()
        deadline = time.monotonic() + self._job.drain_timeout_s
        if any(self._active) and self._job.drain_timeout_s > 0:
            container.dht_announcer.announce(petals_server.ServerState.OFFLINE)
        while any(self._active) and time.monotonic() < deadline:
            time.sleep(_DRAIN_POLL_S)
        self._pulse.watch_container(None)
        server.stop.set()

    def _container_class(self) -> type[ModuleContainer]:
        engine = self

        class ReportingContainer(ModuleContainer):
            """Petals' container; loading it and its being ready are reported."""

            @classmethod
            def create(cls, **kwargs: Any) -> ModuleContainer:
                blocks = kwargs["block_indices"]
                engine._container = None
                engine._pulse.watch_container(None)
                engine._states.loading(min(blocks), max(blocks) + 1)
                container = super().create(**kwargs)
                engine._container = container
                engine._pulse.watch_container(container)
                engine._states.online()
                return container

        return ReportingContainer


def server_arguments(job: EngineJob, config: PretrainedConfig) -> dict[str, Any]:
    """The keyword arguments of petals' `Server` for a job."""
    device = job.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = job.dtype
    if dtype == "auto" and device == "cpu":
        # A CPU has no float16, and float32 gives the tokens that any other implementation gives.
        dtype = "float32"
    quantization = QuantType[job.quantization.upper()]
    num_blocks = job.num_blocks
    if num_blocks is None and job.first_block is None and device == "cpu":
        num_blocks = blocks_that_fit(config, dtype, quantization, psutil.virtual_memory().available)
    return {
        "initial_peers": _initial_peers(job),
        "dht_prefix": job.prefix,
        "converted_model_name_or_path": job.model,
        "public_name": job.public_name,
        "throughput": "auto" if job.throughput is None else float(job.throughput),
        "num_blocks": num_blocks,
        "block_indices": None if job.first_block is None else f"{job.first_block}:{job.last_block}",
        "num_handlers": job.handlers,
        "attn_cache_tokens": job.attention_cache_tokens,
        "max_batch_size": job.max_batch_size,
        "torch_dtype": dtype,
        "revision": job.revision,
        "cache_dir": job.cache_dir,
        "max_disk_space": job.cache_limit_bytes,
        "device": device,
        "quant_type": quantization,
        "update_period": _UPDATE_PERIOD_S,
        # petals asks a public website otherwise
        "skip_reachability_check": True,
        "reachable_via_relay": None if job.use_relay else False,
        "use_relay": job.use_relay,
        "use_auto_relay": job.use_relay,
        "host_maddrs": list(job.listen) or None,
        "announce_maddrs": list(job.announce) or None,
        "identity_path": job.identity_file,
        "startup_timeout": job.join_timeout_s,
        # asks the local network's router for a port, unasked
        "nat_port_map": False,
    }


def _initial_peers(job: EngineJob) -> list[str]:
    if job.new_swarm:
        return []
    return list(job.initial_peers) or list(PUBLIC_INITIAL_PEERS)


def blocks_that_fit(config: PretrainedConfig, dtype: str, quantization: QuantType, available_bytes: int) -> int:
    """How many blocks a machine without a GPU serves when it may choose: 1 to all of the model."""
    size = get_block_size(config, "memory", dtype=DTYPE_MAP[dtype], quant_type=quantization)
    return max(1, min(int(config.num_hidden_layers), int(available_bytes * _SHARE_OF_MEMORY // size)))


def _linked_dht() -> type[DHT]:
    main_pid = os.getpid()

    class LinkedDHT(DHT):
        """Hivemind's DHT process; it ends when the main process does, however that ends."""

        def run(self) -> None:
            die_with_parent(main_pid, signal.SIGKILL)
            name_process("plumise-dht")
            super().run()

    return LinkedDHT
