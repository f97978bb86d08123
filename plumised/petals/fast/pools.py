"""Petals' task pools, whose tasks may be computed in the process that submits them."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from petals.server.task_pool import PrioritizedTaskPool, Task
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from plumised.petals.fast.worker import Worker


class StepPool(PrioritizedTaskPool):
    """Petals' pool; upstream hands every task to the runtime, through a queue to the main process and a pipe back."""

    _worker: Worker | None = None

    def compute_in(self, worker: Worker) -> None:
        """From here on tasks that this process submits are computed by this worker.

        Args:
            worker: of this process. The pool's function is to be a `FastInferenceStep`.
        """
        self._worker = worker

    @override
    def submit_task(self, *args: Any, priority: float = 0.0) -> Awaitable[Any]:
        if self._worker is None:
            submitted: Awaitable[Any] = super().submit_task(*args, priority=priority)
            return submitted
        if self.get_task_size(Task(priority, time.monotonic(), None, args)) > self.max_batch_size:
            raise ValueError(f"Task size greater than max_batch_size ({self.max_batch_size}), it can't be processed")
        # A session keeps its cache: the arguments are hidden states, hypothesis ids, infos of the blocks, and prompts.
        session = args[2][0].cache_handles[0]
        return self._worker.submit(functools.partial(self.process_func.prepare, *args), session)
