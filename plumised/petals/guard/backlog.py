"""What the runtime still computes for a peer that has gone counts as a request of it."""

from __future__ import annotations

import asyncio
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.petals.guard.gate import Place


class Backlog:
    """The tasks of one RPC, of which one at a time waits for the runtime."""

    def __init__(self) -> None:
        self._last: Any = None

    def follow(self, task: Any) -> None:
        """A task was submitted."""
        self._last = task

    def leave(self, place: Place) -> None:
        """The RPC has ended: leave its place, at once or when its last task is done."""
        task, self._last = self._last, None
        if task is None or task.done():
            place.leave()
            return
        loop = asyncio.get_running_loop()

        def done(task: Any) -> None:
            _unanswered.discard(task)
            loop.call_soon_threadsafe(place.leave)

        _unanswered.add(task)
        task.add_done_callback(done)


_unanswered: set[Any] = set()
"""Upstream knows a task that nobody waits for by a weak reference only."""

current: ContextVar[Backlog] = ContextVar("current_backlog")
"""Of the RPC that is being served."""


def followed(submit: Callable[..., Any]) -> Callable[..., Any]:
    """A task pool's `submit_task` that tells the backlog of the RPC for which it is called."""

    @functools.wraps(submit)
    def submit_task(pool: Any, *args: Any, **kwargs: Any) -> Any:
        task = submit(pool, *args, **kwargs)
        backlog = current.get(None)
        if backlog is not None:
            backlog.follow(task)
        return task

    return submit_task
