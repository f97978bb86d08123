"""One petals server, made from the daemon's job, that reports, counts, drains and stops in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final

import psutil
from hivemind import DHT
from petals.constants import PUBLIC_INITIAL_PEERS
from petals.server import server as petals_server
from petals.server.server import ModuleContainer, Server

from plumised.petals.fast.kernel import load_kernel
from plumised.petals.fast.serving import shortest_path
from plumised.petals.guard.quiet import keep_quiet
from plumised.petals.hardware import Hardware, blocks_that_fit, choose_hardware
from plumised.petals.lifeline import die_with_parent, name_process
from plumised.petals.loading import load_config
from plumised.petals.memory import keep_inherited, release, settle
from plumised.petals.patches import apply_patches
from plumised.petals.preflight import check_identity, check_prefix, check_span
from plumised.petals.threads import runtime_threads, single_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PretrainedConfig

    from plumised.ipc.job import EngineJob
    from plumised.petals.progress_counter import RuntimeProgress
    from plumised.petals.pulse import Pulse
    from plumised.petals.reporting import StateReporter
    from plumised.petals.stopping import Stopper

_UPDATE_PERIOD_S: Final = 30.0
_DRAIN_POLL_S: Final = 0.1


class Engine:
    """Builds the server and runs it until it is drained.

    Args:
        job: what to serve, and where.
        states: takes the changes of state.
        pulse: is told what to watch.
        progress: where the runtime thread counts.
        stopper: is told when there is something to drain.
    """

    def __init__(
        self, job: EngineJob, states: StateReporter, pulse: Pulse, progress: RuntimeProgress, stopper: Stopper
    ) -> None:
        self._job = job
        self._states = states
        self._pulse = pulse
        self._stopper = stopper
        self._active = multiprocessing.Array("i", job.handlers, lock=False)
        self._server: Server | None = None
        self._container: ModuleContainer | None = None
        threads = runtime_threads(job)
        self._kernel = load_kernel(threads) if job.fast_path else None
        single_thread()
        # Before anything is forked that strangers can make write to the log.
        keep_quiet()
        apply_patches(
            job,
            progress,
            self._active,
            threads=threads,
            kernel=self._kernel,
            container=self._container_class(),
            dht=_linked_dht(),
            states=states,
        )

    def run(self) -> None:
        """Serve until the stopper has drained it.

        Raises:
            EngineError: something that was checked is wrong.
        """
        job = self._job
        hardware = choose_hardware(job)
        config = load_config(job)
        total = int(config.num_hidden_layers)
        check_prefix(job, config.dht_prefix)
        check_span(job, total)
        check_identity(job)
        self._states.joining(total)
        # That forks the DHT's process.
        settle()
        self._server = server = Server(**server_arguments(job, hardware, config))
        # What peers are told.
        server.server_info.quant_type = hardware.quantization.name.lower()
        try:
            self._pulse.watch_dht(server.dht)
            self._states.joined(
                server.dht.peer_id.to_base58(),
                [str(address) for address in server.dht.get_visible_maddrs()],
                dtype=str(server.torch_dtype).removeprefix("torch."),
                quantization=server.server_info.quant_type,
                device=str(server.device),
            )
            server.run()
        finally:
            self._pulse.watch_dht(None)
            server.shutdown()

    def _drain(self, cut_short: Callable[[], bool]) -> None:
        server, container = self._server, self._container
        if server is None or container is None:
            raise AssertionError("only what serves is drained")
        self._states.draining()
        deadline = time.monotonic() + self._job.drain_timeout_s
        if self._serves(container) and self._job.drain_timeout_s > 0:
            container.dht_announcer.announce(petals_server.ServerState.OFFLINE)
        while self._serves(container) and time.monotonic() < deadline and not cut_short():
            time.sleep(_DRAIN_POLL_S)
        server.stop.set()

    def _serves(self, container: ModuleContainer) -> bool:
        """Whether a request is being served; a handler that was killed cannot take its own out of the count."""
        handlers = zip(container.conn_handlers, self._active, strict=True)
        return any(active and handler.is_alive() for handler, active in handlers)

    def _container_class(self) -> type[ModuleContainer]:
        engine = self

        class ReportingContainer(ModuleContainer):
            """Petals' container; its being loaded, ready and taken down are reported."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                # The blocks are there, and upstream forks the handlers.
                release()
                super().__init__(*args, **kwargs)

            @classmethod
            def create(cls, **kwargs: Any) -> ModuleContainer:
                blocks = kwargs["block_indices"]
                engine._states.loading(min(blocks), max(blocks) + 1)
                container = super().create(**kwargs)
                engine._container = container
                engine._pulse.watch_container(container)
                engine._stopper.serving(engine._drain)
                engine._states.online(shortest_path(container.module_backends.values(), engine._kernel))
                return container

            def shutdown(self) -> None:
                # Upstream also does this to load other blocks, and lives on. Its parts end one by one from here.
                engine._stopper.serving(None)
                engine._pulse.watch_container(None)
                engine._states.not_serving()
                super().shutdown()

        return ReportingContainer


def server_arguments(job: EngineJob, hardware: Hardware, config: PretrainedConfig) -> dict[str, Any]:
    """The keyword arguments of petals' `Server` for a job."""
    num_blocks = job.num_blocks
    if num_blocks is None and job.first_block is None and hardware.device == "cpu":
        available = psutil.virtual_memory().available
        num_blocks = blocks_that_fit(config, hardware.dtype, hardware.quantization, available)
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
        "torch_dtype": hardware.dtype,
        "revision": job.revision,
        "cache_dir": job.cache_dir,
        "max_disk_space": job.cache_limit_bytes,
        "device": hardware.device,
        "quant_type": hardware.by_petals,
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


def _linked_dht() -> type[DHT]:
    main_pid = os.getpid()

    class LinkedDHT(DHT):
        """Hivemind's DHT process; it ends when the main process does, however that ends."""

        def run(self) -> None:
            die_with_parent(main_pid, signal.SIGKILL)
            name_process("plumise-dht")
            keep_inherited()
            super().run()

    return LinkedDHT
