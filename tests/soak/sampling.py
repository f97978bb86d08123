"""Takes samples of nodes while something else happens to them."""

from __future__ import annotations

import shlex
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pydantic import BaseModel, ConfigDict

from tests.hosts.host import HostError
from tests.soak import probe
from tests.soak.judgement import Point

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from tests.e2e.nodes import ClusterNode
    from tests.soak.figures import Figure

_PROBE: Final = Path(probe.__file__).read_bytes()
_PROBE_TIMEOUT_S: Final = 30.0


class ProbeError(Exception):
    """The probe failed; the message has what it said."""


class PartView(BaseModel):
    """One part of a node, as the probe prints it."""

    model_config = ConfigDict(frozen=True)

    life: str
    memory: int
    descriptors: int
    threads: int
    processes: int


class View(BaseModel):
    """What the probe prints."""

    model_config = ConfigDict(frozen=True)

    parts: dict[str, PartView]
    files: dict[str, int]
    serving: bool

    def point(self, figure: Figure, at_s: float) -> Point | None:
        """One figure; None while the part that has it does not run."""
        if not figure.part:
            return Point(at_s, "", self.files[figure.key] / figure.scale)
        part = self.parts.get(figure.part)
        return None if part is None else Point(at_s, part.life, part.model_dump()[figure.key] / figure.scale)


@dataclass(frozen=True)
class Sample:
    """What a node used.

    Attributes:
        at_s: when, since the sampler began.
    """

    at_s: float
    view: View


@dataclass
class Sampler:
    """Samples each node in a thread of its own until the end of its block.

    Attributes:
        samples: of each node, by name, oldest first. While a host does not answer there are none.
        errors: of the probe.
    """

    nodes: Sequence[ClusterNode]
    every_s: float
    clock: Callable[[], float] = time.monotonic
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _pool: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)
    _threads: list[Future[None]] = field(default_factory=list)

    def __enter__(self) -> Self:
        began = self.clock()
        for node in self.nodes:
            self.samples[node.name] = []
            self._threads.append(self._pool.submit(self._watch, node, began))
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for thread in self._threads:
            # Raises what ended it.
            thread.result()

    def points(self, node: str, figure: Figure) -> list[Point]:
        """The points of one figure of a node."""
        return _points(self.samples[node], figure)

    def points_while_serving(self, node: str, figure: Figure) -> list[Point]:
        """Those at which the node served: what starts, or is about to be ended, is not whole."""
        return _points([sample for sample in self.samples[node] if sample.view.serving], figure)

    def _watch(self, node: ClusterNode, began: float) -> None:
        while not self._over.is_set():
            try:
                view = looked_at(node)
            except ProbeError as error:
                self.errors.append(f"{node.name}: {error}")
                view = None
            if view is not None:
                self.samples[node.name].append(Sample(self.clock() - began, view))
            self._over.wait(self.every_s)


def _points(samples: Sequence[Sample], figure: Figure) -> list[Point]:
    points = (sample.view.point(figure, sample.at_s) for sample in samples)
    return [point for point in points if point is not None]


def looked_at(node: ClusterNode) -> View | None:
    """What a node uses at this moment; None where its host does not answer, or the daemon does not run.

    Raises:
        ProbeError: it cannot be told what it uses.
    """
    unit, state = shlex.quote(node.node.unit), shlex.quote(node.node.state_dir)
    # Fails while the host boots.
    command = f"main=$(systemctl show --property=MainPID --value {unit}) && python3 - $main {unit} {state}"
    try:
        seen = node.host.run(command, check=False, timeout_s=_PROBE_TIMEOUT_S, stdin=_PROBE)
    except HostError:
        return None
    if "Traceback" in seen.stderr:
        raise ProbeError(str(seen))
    if seen.status != 0:
        return None
    view = View.model_validate_json(seen.stdout)
    return view if "daemon" in view.parts else None
