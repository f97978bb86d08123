"""The attention cache of a process that both allocates it and computes with it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import torch
from petals.server.memory_cache import MemoryCache
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hivemind.utils import TensorDescriptor
    from petals.data_structures import Handle


class AttentionCache(MemoryCache):
    """Petals' cache, which a connection handler may keep in its own process.

    Upstream's handlers allocate and the runtime, in the main process, holds the tensors; a pipe between them tells of
    both. Limits, waiting and the figures that are announced are upstream's in either case: they are in shared memory.
    """

    _tensors: _Tensors | None = None

    def keep_here(self) -> None:
        """From here on this process holds the tensors of what it allocates, and computes with them."""
        self._tensors = self._pipe_send = _Tensors()

    @override
    @contextlib.contextmanager
    def use_cache(self, *handles: Handle) -> Iterator[tuple[torch.Tensor, ...]]:
        """The tensors of handles; KeyError for one that has been freed."""
        if self._tensors is None:
            with super().use_cache(*handles) as tensors:
                yield tensors
        else:
            yield self._tensors.take(handles)


class _Tensors:
    """What upstream sends through its pipe, done at once: the other end is here.

    Allocated by the event loop, taken by the thread that computes; a tensor is made when it is first taken.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[Handle, TensorDescriptor | torch.Tensor] = {}

    def send(self, message: tuple[Sequence[Handle], Sequence[TensorDescriptor] | None]) -> None:
        """Handles with the descriptors of their tensors, or with None once they are freed."""
        handles, descriptors = message
        with self._lock:
            if descriptors is not None:
                self._made.update(zip(handles, descriptors, strict=True))
            else:
                for handle in handles:
                    del self._made[handle]

    def take(self, handles: Sequence[Handle]) -> tuple[torch.Tensor, ...]:
        """The tensors of handles."""
        with self._lock:
            return tuple(self._take(handle) for handle in handles)

    def _take(self, handle: Handle) -> torch.Tensor:
        made = self._made[handle]
        if isinstance(made, torch.Tensor):
            return made
        tensor: torch.Tensor = made.make_zeros()
        self._made[handle] = tensor
        return tensor
