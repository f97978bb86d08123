"""Shows that the runtime thread makes progress: blocks computed, and probes that pass through its queue."""

from __future__ import annotations

import threading
from multiprocessing import Pipe
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import torch
from petals.server.server import RuntimeWithDeduplicatedPools

if TYPE_CHECKING:
    from collections.abc import Callable

    from petals.server.backend import TransformerBackend

    from plumised.petals.progress_counter import RuntimeProgress

_BEFORE_ALL_TASKS: Final = (float("-inf"), float("-inf"))


def progress_backend(progress: RuntimeProgress, backend: Any) -> type[TransformerBackend]:
    """Petals' backend of one block, or a class derived from it, with every pass through the block counted."""

    class ProgressBackend(backend):
        def inference_step(self, *args: Any, **kwargs: Any) -> Any:
            result = super().inference_step(*args, **kwargs)
            progress.blocks += 1
            return result

        def forward(self, *inputs: Any) -> Any:
            result = super().forward(*inputs)
            progress.blocks += 1
            return result

        def backward(self, *inputs: Any) -> Any:
            result = super().backward(*inputs)
            progress.blocks += 1
            return result

    return ProgressBackend


class ProbePool:
    """A task pool without tasks: whoever asks gets an answer from the runtime thread, ahead of any queued batch.

    It has the part of hivemind's TaskPoolBase that the runtime uses. It carries no tensors between processes, so it
    costs the runtime a few microseconds.
    """

    name = "probe"
    priority = _BEFORE_ALL_TASKS

    def __init__(self, answered: Callable[[], None]) -> None:
        self.batch_receiver, self._sender = Pipe(duplex=False)
        self._answered = answered
        self._pending: SimpleQueue[None] = SimpleQueue()

    def ask(self) -> None:
        """Queue one probe."""
        self._pending.put(None)
        self._sender.send(None)

    def load_batch_to_runtime(self, timeout: float | None = None, device: Any = None) -> tuple[int, list[Any]]:
        """Called by the runtime: take one probe."""
        del timeout, device
        self._pending.get()
        self.batch_receiver.recv()
        return 0, []

    def process_func(self) -> tuple[torch.Tensor]:
        """Called by the runtime in its own thread: that it is called is the answer."""
        self._answered()
        return (_ANSWER,)

    def send_outputs_from_runtime(self, uid: int, outputs: Any) -> None:
        """Nobody waits for a tensor."""

    def send_exception_from_runtime(self, uid: int, exception: BaseException) -> None:
        """Cannot happen: `process_func` does not raise."""

    def is_alive(self) -> bool:
        """It has no process that could die."""
        return True

    def shutdown(self) -> None:
        """It has no process to end."""

    def terminate(self) -> None:
        """It has no process to end."""

    def join(self) -> None:
        """It has no process to wait for."""


_ANSWER: Final = torch.zeros(1)

USED_BY_RUNTIME: Final = (
    "batch_receiver",
    "is_alive",
    "load_batch_to_runtime",
    "name",
    "priority",
    "process_func",
    "send_exception_from_runtime",
    "send_outputs_from_runtime",
    "terminate",
    "join",
)
"""Members of a task pool that hivemind's runtime uses, and that `ProbePool` therefore has."""


def probed_runtime(progress: RuntimeProgress, threads: int) -> type[RuntimeWithDeduplicatedPools]:
    """Petals' runtime with a probe pool beside the blocks' pools.

    Args:
        progress: where answers are counted.
        threads: torch threads of the runtime thread.
    """

    class ProbedRuntime(RuntimeWithDeduplicatedPools):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.probe = ProbePool(self._count_probe)
            self.pools: tuple[Any, ...] = (*self.pools, self.probe)

        def run(self) -> None:
            threading.current_thread().name = "plumised-runtime"
            torch.set_num_threads(threads)
            super().run()

        def _count_probe(self) -> None:
            progress.probes += 1

    return ProbedRuntime
