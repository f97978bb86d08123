"""Connection handlers that compute inference steps themselves.

Where the fast path covers every block of the span, the first handler alone serves inference sessions, and computes
their steps in a thread of its own: no queue to the main process, no pipe back, no copies in shared memory, and the
steps of sessions that wait at the same moment go together. Forward and backward passes take Petals' way through the
runtime in the main process; the other handlers serve them, so that their large messages do not hold up a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from petals.server.handler import TransformerConnectionHandler
from typing_extensions import override

from plumised.petals.fast.caching import AttentionCache
from plumised.petals.fast.pools import StepPool
from plumised.petals.fast.serving import all_fused
from plumised.petals.fast.worker import Worker

if TYPE_CHECKING:
    from plumised.petals.progress_counter import RuntimeProgress

COMPUTES: Final = 0
"""Index of the handler that computes."""
_SESSIONS: Final = frozenset({"rpc_inference", "rpc_push"})
_PASSES: Final = frozenset({"rpc_forward", "rpc_forward_stream", "rpc_backward", "rpc_backward_stream"})
_CLOSE_TIMEOUT_S: Final = 1.0


class ComputingConnectionHandler(TransformerConnectionHandler):
    """Petals' handler; the first of an engine computes inference steps where the fast path covers its span.

    A subclass sets the class variables.
    """

    threads: ClassVar[int]
    progress: ClassVar[RuntimeProgress]
    _worker: Worker | None = None
    _rpc_handlers: Any

    @override
    def run(self) -> None:
        if self._handler_index != COMPUTES or not self._covered:
            super().run()
            return
        self._worker = Worker(self.threads)
        for backend in self.module_backends.values():
            backend.memory_cache.keep_here()
            backend.inference_pool.compute_in(self._worker)
        self._worker.start()
        try:
            super().run()
        finally:
            self._worker.close(_CLOSE_TIMEOUT_S)

    @property
    def _covered(self) -> bool:
        backends = self.module_backends.values()
        return all_fused(backends) and all(
            isinstance(backend.inference_pool, StepPool) and isinstance(backend.memory_cache, AttentionCache)
            for backend in backends
        )

    @override
    async def add_p2p_handlers(self, *args: Any, **kwargs: Any) -> None:
        # Upstream keeps them with the class; those of this instance are what peers can ask this process for.
        self._collect_rpc_handlers()
        elsewhere = self._served_elsewhere()
        self._rpc_handlers = [rpc for rpc in self._rpc_handlers if rpc.method_name not in elsewhere]
        await super().add_p2p_handlers(*args, **kwargs)

    def _served_elsewhere(self) -> frozenset[str]:
        """The RPCs that another handler serves; p2pd hands each to one of those that serve it, in turn."""
        if not self._covered:
            return frozenset()
        if self._handler_index != COMPUTES:
            return _SESSIONS
        return _PASSES if len(self._handler_event_queues) > 1 else frozenset()

    async def computed(self) -> None:
        """Return when the thread that computes, if there is one here, has come to its next turn."""
        if self._worker is not None:
            await self._worker.probe()
