"""Keeps the engine's main process to one OpenMP pool: that of the runtime thread, which computes.

Each thread that opens a parallel region of its own makes libgomp keep a pool for it, and with two pools in a process
the threads of one are twice as slow. So everything but the runtime thread uses one thread.
"""

from __future__ import annotations

import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.ipc.job import EngineJob


def runtime_threads(job: EngineJob) -> int:
    """Threads that compute: as the job says, else as many as torch would take. To be asked before `single_thread`."""
    return job.threads or torch.get_num_threads()


def single_thread() -> None:
    """Keep the calling thread, and those that start later and say nothing else, from opening a pool."""
    torch.set_num_threads(1)


def single_threaded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with each thread that calls it kept from opening a pool."""
    seen = threading.local()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not hasattr(seen, "single"):
            single_thread()
            seen.single = True
        return function(*args, **kwargs)

    return call


def with_threads(threads: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called in a thread that may open a pool of this size, which goes with it; errors come back."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as executor:
            result = executor.submit(function, *args, **kwargs).result()
        single_thread()
        return result

    return call
