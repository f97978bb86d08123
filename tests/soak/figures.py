"""What is sampled of a node, in which unit, and how much of growth is still flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.soak.judgement import Bound

MB: Final = 1e6


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what it is called.
        part: whose lives it has: daemon, engine, p2pd; empty for what outlives them.
        key: what the probe calls it.
        unit: that it is shown in.
        scale: the probe's units in one of these.
        bound: what is flat, in `unit`.
    """

    name: str
    part: str
    key: str
    unit: str
    scale: float
    bound: Bound


FIGURES: Final = (
    Figure("daemon: memory", "daemon", "memory", "MB", MB, Bound(4.0, 0.05)),
    Figure("daemon: descriptors", "daemon", "descriptors", "", 1, Bound(4, 0.1)),
    Figure("daemon: threads", "daemon", "threads", "", 1, Bound(4, 0.1)),
    Figure("engine: memory", "engine", "memory", "MB", MB, Bound(16.0, 0.05)),
    Figure("engine: descriptors", "engine", "descriptors", "", 1, Bound(8, 0.1)),
    Figure("engine: threads", "engine", "threads", "", 1, Bound(4, 0.1)),
    Figure("engine: processes", "engine", "processes", "", 1, Bound(0, 0)),
    # Go gives memory back late: 77 MB at first become 92 within minutes, and swing by 10.
    Figure("p2pd: memory", "p2pd", "memory", "MB", MB, Bound(16.0, 0.1)),
    Figure("p2pd: descriptors", "p2pd", "descriptors", "", 1, Bound(8, 0.1)),
    Figure("p2pd: threads", "p2pd", "threads", "", 1, Bound(4, 0.1)),
    # The last 1 000 transactions are kept, which the faults of a soak may not reach.
    Figure("ledger", "", "ledger", "MB", MB, Bound(2.0, 0.02)),
    # SQLite writes its log back at 4 MB and does not make it shorter before the daemon ends.
    Figure("state without ledger", "", "state", "MB", MB, Bound(4.5, 0.1)),
    Figure("shared memory's files", "", "shared", "", 1, Bound(4, 0)),
)
