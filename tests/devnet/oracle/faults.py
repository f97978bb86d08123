"""The faults that are switched on, and what each does to a message."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.devnet.oracle.views import Endpoint, Fault, Moment


class LetGo(Exception):  # noqa: N818 - a state, not a mistake
    """What hung was let go: it is over without an answer."""


class Faults:
    """The list of faults, in the order in which they were switched on. Used in the Oracle's event loop only."""

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self._released = asyncio.Event()
        self._ended = False

    @property
    def active(self) -> tuple[Fault, ...]:
        """Those that are still on, with the counts that are left."""
        return tuple(self._active)

    def add(self, fault: Fault) -> None:
        """Switch one on."""
        self._active.append(fault)

    def clear(self) -> None:
        """Switch all off; what hangs is let go (its connection is reset, nothing is booked)."""
        self._active.clear()
        self._released.set()
        self._released = asyncio.Event()

    def end(self) -> None:
        """Let go all that hangs or is delayed, for the Oracle stops."""
        self._ended = True
        self.clear()

    @property
    def skew_s(self) -> float:
        """How far the Oracle's clock is off."""
        return sum(fault.seconds for fault in self._active if fault.kind == "skew")

    def take(self, kind: Literal["rpc-down", "database-down"]) -> bool:
        """Whether that service fails this time."""
        return self._take(lambda fault: fault.kind == kind) is not None

    def hit(self, on: Endpoint, when: Moment) -> Fault | None:
        """The fault that hits this message at this point; one at a time, and it is counted."""
        return self._take(
            lambda fault: (
                fault.kind not in {"skew", "rpc-down", "database-down"}
                and fault.when == when
                and fault.on in {on, "any"}
            )
        )

    async def hold(self, fault: Fault | None) -> None:
        """Wait as a delay or a hang wants it; a delay also ends when the faults are cleared.

        Raises:
            LetGo: a hang ended, or the Oracle stops.
        """
        if fault is None or fault.kind not in {"delay", "hang"}:
            return
        released = self._released
        if fault.kind == "hang":
            await released.wait()
            raise LetGo
        with suppress(TimeoutError):
            await asyncio.wait_for(released.wait(), fault.seconds)
        if self._ended:
            raise LetGo

    def _take(self, matches: Callable[[Fault], bool]) -> Fault | None:
        for index, fault in enumerate(self._active):
            if not matches(fault):
                continue
            if fault.count == 1:
                del self._active[index]
            elif fault.count is not None:
                self._active[index] = fault.model_copy(update={"count": fault.count - 1})
            return fault
        return None
