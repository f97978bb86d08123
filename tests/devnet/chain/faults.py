"""The faults that are switched on, and which of them strike a request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.devnet.chain.model import Fault, FaultMode

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(eq=False)
class Active:
    """A fault that is on.

    Attributes:
        height: number of the head when it was switched on.
        left: requests that it still strikes; None for no end.
        cleared: set once the fault is off.
    """

    fault: Fault
    height: int
    left: int | None
    cleared: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def mode(self) -> FaultMode:
        return self.fault.mode

    @property
    def stuck_at(self) -> int:
        """The block that a stale node takes for the head."""
        return max(0, self.height - self.fault.blocks_behind)

    def concerns(self, method: str) -> bool:
        return not self.fault.methods or method in self.fault.methods


class Board:
    """All faults that are on, in the order in which they were switched on."""

    def __init__(self) -> None:
        self._active: list[Active] = []

    def add(self, fault: Fault, height: int) -> Active:
        active = Active(fault, height, fault.count)
        self._active.append(active)
        return active

    def remove(self, active: Active) -> None:
        if active in self._active:
            self._active.remove(active)
        active.cleared.set()

    def clear(self) -> None:
        for active in tuple(self._active):
            self.remove(active)

    def strike(self, methods: Iterable[str]) -> tuple[Active, ...]:
        """Return the faults that strike a request with these calls, and count it."""
        called = tuple(methods)
        struck = tuple(
            active
            for active in self._active
            if active.mode is not FaultMode.REFUSE and (not called or any(active.concerns(each) for each in called))
        )
        for active in struck:
            if active.left is not None:
                active.left -= 1
                if active.left == 0:
                    self._active.remove(active)
        return struck

    @property
    def refusing(self) -> bool:
        return any(active.mode is FaultMode.REFUSE for active in self._active)

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(active.fault for active in self._active)
