"""The pipe by which handlers tell the runtime of attention caches, read as things are written to it.

Upstream reads it when the next step is computed. Sessions that reserve cache and compute nothing fill it, some hundred
of them, and from then on every handler waits for ever with its event loop, holding a lock.
"""

from __future__ import annotations

import threading
from collections import deque
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from petals.server.memory_cache import MemoryCache

if TYPE_CHECKING:
    from collections.abc import Callable


class DrainedPipe:
    """In the place of the runtime's end of the pipe: `poll` and `recv` as upstream uses them.

    What was reserved and freed again before the runtime has looked is forgotten.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._created: dict[Any, Any] = {}
        self._freed: deque[Any] = deque()
        threading.Thread(target=self._run, name="plumised-cache", daemon=True).start()

    def poll(self) -> bool:
        """Whether there is something; all that was sent before this is called is counted in."""
        self._drain()
        return bool(self._created or self._freed)

    def recv(self) -> tuple[Any, Any]:
        """Handles with what is to be made of them, or with None if they are freed."""
        with self._lock:
            if self._freed:
                return self._freed.popleft(), None
            return self._created.popitem()

    def _run(self) -> None:
        while True:
            wait([self._pipe])
            try:
                self._drain()
            except EOFError:
                return

    def _drain(self) -> None:
        with self._lock:
            while self._pipe.poll():
                handles, descriptors = self._pipe.recv()
                if descriptors is not None:
                    self._created[handles] = descriptors
                elif self._created.pop(handles, None) is None:
                    self._freed.append(handles)


def drained_cache() -> Callable[..., None]:
    """In the place of `MemoryCache.__init__`."""
    upstream = MemoryCache.__init__

    def initialize(cache: Any, *args: Any, **kwargs: Any) -> None:
        upstream(cache, *args, **kwargs)
        cache._pipe_recv = DrainedPipe(cache._pipe_recv)  # noqa: SLF001 -- what is replaced

    return initialize
