"""Faults at random: which, to whom, for how long and when next is drawn from a seed; then they are made and mended."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final

from tests.e2e.faults import ROWS, Stage
from tests.e2e.nodes import SERVING_WITHIN_S, STATUS_PAUSE_S
from tests.hosts.host import HostError
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.e2e.cluster import Cluster
    from tests.e2e.faults import Row
    from tests.e2e.nodes import ClusterNode, StatusView

NOT_DRAWN: Final = frozenset({"bootstrap peer gone for good"})
"""Rows of the fault matrix that nothing mends."""
RECOVERED_WITHIN_S: Final = 300.0
_LASTS_S: Final = (5.0, 30.0)
_NOTICED_WITHIN_S: Final = 30.0
_PAUSE_S: Final = (2.0, 20.0)
_DEATHS_BEFORE_FRESH: Final = 3
"""Five deaths without a long run between them are a crash loop, of which an operator would have to take notice."""


@dataclass(frozen=True)
class Blow:
    """A fault that is to be made.

    Attributes:
        victim: name of the node.
        lasts_s: until it is mended, where it does not mend itself.
        pause_s: from all being well again to the next one.
    """

    row: Row
    victim: str
    lasts_s: float
    pause_s: float


@dataclass(frozen=True)
class Struck:
    """A fault that was made. Times are in seconds since the storm began.

    Attributes:
        well_after_s: how long it took, from its end, until all nodes were well.
    """

    fault: str
    victim: str
    began_s: float
    ended_s: float
    well_after_s: float


def drawn(seed: int, names: Sequence[str]) -> Iterator[Blow]:
    """Blows without end, the same for the same seed: every row once in random order, then every row again."""
    chance = Random(seed)
    rows = [row for row in ROWS if row.fault not in NOT_DRAWN]
    while True:
        chance.shuffle(rows)
        for row in rows:
            yield Blow(row, chance.choice(names), chance.uniform(*_LASTS_S), chance.uniform(*_PAUSE_S))


@dataclass
class Storm:
    """Strikes the nodes of a cluster.

    Attributes:
        began: when, by the monotonic clock.
        say: is told what happens.
        struck: the faults that were made, and are over.
    """

    cluster: Cluster
    began: float
    say: Callable[[str], None]
    struck: list[Struck] = field(default_factory=list)
    _forgotten: dict[str, int] = field(default_factory=dict)

    def rage(self, blows: Iterator[Blow], until: float) -> None:
        """Strike one blow after the other, until a time, by the monotonic clock; the last is over later.

        Raises:
            TimeoutError: the nodes do not recover.
        """
        while time.monotonic() < until:
            blow = next(blows)
            self.struck.append(self._strike(blow))
            time.sleep(max(0.0, min(blow.pause_s, until - time.monotonic())))

    def _strike(self, blow: Blow) -> Struck:
        victim, *others = sorted(self.cluster.nodes.values(), key=lambda node: node.name != blow.victim)
        self._freshen(victim)
        row = blow.row
        with contextlib.ExitStack() as stack:
            stage = Stage(self.cluster, victim, others[0], victim.status())
            if row.clear is not None:
                stack.callback(row.clear, stage)
            if row.prepare is not None:
                row.prepare(stage)
                self._recovered(victim, f"preparing {row.fault}")
            began = time.monotonic()
            self.say(f"{row.fault}: {victim.name}" + (f", {blow.lasts_s:.0f} s" if row.end else ""))
            try:
                row.begin(stage)
                if row.end is not None:
                    time.sleep(blow.lasts_s)
                else:
                    _noticed(row, stage)
            finally:
                if row.end is not None:
                    row.end(stage)
        ended = time.monotonic()
        for node in self.cluster.nodes.values():
            self._recovered(node, row.fault)
        struck = Struck(row.fault, victim.name, began - self.began, ended - self.began, time.monotonic() - ended)
        self.say(f"well after {struck.well_after_s:.0f} s")
        return struck

    def _freshen(self, node: ClusterNode) -> None:
        """Have earlier deaths be forgotten, as an operator would who has seen to them."""
        restarts = node.status().engine.restarts
        # Fewer than there were: another daemon, which counts from zero.
        forgotten = min(self._forgotten.get(node.name, 0), restarts)
        if restarts - forgotten >= _DEATHS_BEFORE_FRESH:
            node.node.plumised("restart-engine")
            fresh = node.wait(
                "it serves anew", lambda status: status.well and status.engine.restarts > restarts, SERVING_WITHIN_S
            )
            forgotten = fresh.engine.restarts
        self._forgotten[node.name] = forgotten

    def _recovered(self, node: ClusterNode, fault: str) -> None:
        wait_until(f"{node.name} is well again after: {fault}", lambda: _well(node), RECOVERED_WITHIN_S, STATUS_PAUSE_S)


def _noticed(row: Row, stage: Stage) -> None:
    """Wait until the victim tells of what mends itself: before that it looks well. Telling may have been too short."""
    deadline = time.monotonic() + _NOTICED_WITHIN_S
    while time.monotonic() < deadline and not row.noticed(stage, _status(stage.victim)):
        time.sleep(STATUS_PAUSE_S)


def _status(node: ClusterNode) -> StatusView | None:
    """None where no daemon answers, be it that the whole host does not."""
    try:
        return node.status_if_any()
    except HostError:
        return None


def _well(node: ClusterNode) -> bool:
    status = _status(node)
    return status is not None and status.well
