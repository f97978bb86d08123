"""An event loop whose time is made up, and lives of a daemon that end between any two of its effects.

Time passes only when nothing can happen before it does, so that hours cost nothing and every run is the same. What a
program gives to a thread is done by the loop itself, one piece after the other: each is an effect, before or after
which the program can be killed.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from typing import Any

T = TypeVar("T")


class _Selector(selectors.SelectSelector):
    """Waits for nothing: where the loop would, the time goes on instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing can happen any more")
            self.now += max(0.0, timeout)
        return ready


class Life:
    """The life of one process.

    Attributes:
        over: whether it was killed. Nothing that it began has an effect after that.
    """

    def __init__(self) -> None:
        self.over = False
        self._effects_left: int | None = None
        self._last_counts = False
        self._on_death: Callable[[], None] = lambda: None

    def end_after(self, effects: int, on_death: Callable[[], None], *, last_counts: bool) -> None:
        """Kill it after so many more effects; `last_counts`: just after one, which nobody hears of; else just before.

        Args:
            effects: how many its program still hears of.
            on_death: called at that moment.
            last_counts: whether one more takes place.
        """
        self._effects_left = effects
        self._last_counts = last_counts
        self._on_death = on_death

    def carry_out(self, future: asyncio.Future[T], work: Callable[[], T]) -> None:
        """Have one effect, unless this life is over or ends here."""
        if self.over:
            return
        if self._effects_left == 0:
            if self._last_counts:
                work()
            self.over = True
            self._on_death()
            return
        if self._effects_left is not None:
            self._effects_left -= 1
        if future.cancelled():
            # As with a thread: what was begun is done.
            work()
            return
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - it is the caller's
            future.set_exception(error)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop.

    Attributes:
        life: of the process that what is given to threads belongs to.
    """

    def __init__(self) -> None:
        self._made_up = _Selector()
        super().__init__(self._made_up)
        self.life = Life()

    def time(self) -> float:
        return self._made_up.now

    def run_in_executor(  # type: ignore[override]  # a future, as the base class gives
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        del executor
        future: asyncio.Future[T] = self.create_future()
        self.call_soon(self.life.carry_out, future, lambda: func(*args))
        return future
