"""What generates text in `tests.bench.engine`, what is asked of it, and what it was measured to do."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, Final

from tests.petals.engine_process import session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.swarms import Generator


_WARM_UP_TOKENS: Final = 4


@dataclass(frozen=True)
class Order:
    """What is asked for in one run.

    Attributes:
        tokens: from each session; of a forward pass those that go through.
        sessions: at once.
        context: tokens of a prompt; 0 for the prompts as they are.
        forward: whether these are forward passes; so many as there are sessions.
    """

    tokens: int = 32
    sessions: int = 1
    context: int = 0
    forward: bool = False

    def tokens_of_run(self) -> int:
        """What the rate is of: the tokens generated, or those read where next to none are."""
        return self.sessions * (self.context if self.tokens == 1 else self.tokens)


KINDS: Final = {
    "one": Order(),
    "long": Order(context=512),
    "sessions4": Order(sessions=4),
    "sessions8": Order(sessions=8),
    "prefill": Order(tokens=1, context=1000),
    "forward": Order(tokens=128, sessions=4, forward=True),
}


@dataclass(frozen=True)
class Run:
    """What one order gave.

    Attributes:
        prompt: the first session's.
        tokens: of each session.
        seconds: from the first prompt to the last token.
        steps: seconds from one token to the next, of all sessions.
        cpu_s: of the nodes meanwhile, all their processes together.
    """

    prompt: int
    tokens: list[list[int]]
    seconds: float
    steps: list[float]
    cpu_s: float


@dataclass
class System:
    """Something that generates, and what it was measured to do.

    Attributes:
        name: in the results.
        generator: of text.
        nodes: that it goes through.
        alone: is one process, for which several sessions are no use.
        runs: by the name of the order.
    """

    name: str
    generator: Generator
    nodes: list[Any] = field(default_factory=list)
    alone: bool = False
    own_client: bool = False
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def takes(self, order: Order) -> bool:
        """Whether it does what is asked for."""
        if order.forward:
            return not self.alone and not self.own_client
        return not self.alone or order.sessions == 1

    def run(self, kind: str, prompt: int) -> None:
        """One measured run, kept in `runs`.

        A few tokens go before it, since a system rests while others have their turn.
        """
        order = KINDS[kind]
        self.generator.ask(prompt=prompt, context=0, tokens=_WARM_UP_TOKENS, sessions=1)
        before = self._cpu_s()
        if order.forward:
            answer = self.generator.ask(forward=order.tokens, times=order.sessions)
        else:
            answer = self.generator.ask(
                prompt=prompt, context=order.context, tokens=order.tokens, sessions=order.sessions
            )
        cpu_s = self._cpu_s() - before
        self.runs.setdefault(kind, []).append(Run(prompt, answer["tokens"], answer["seconds"], answer["steps"], cpu_s))

    def rates(self, kind: str) -> list[float]:
        """Tokens a second of each run, all sessions together."""
        return [KINDS[kind].tokens_of_run() / run.seconds for run in self.runs.get(kind, [])]

    def memory_mb(self) -> float:
        """Proportional set size of a node, in units of 10^6 bytes; the median of the nodes."""
        return median(_total(node.pid, _pss_bytes) / 1e6 for node in self.nodes)

    def step_ms(self, kind: str) -> float | None:
        """Median of the time from one token to the next."""
        steps = [step for run in self.runs.get(kind, []) for step in run.steps]
        return median(steps) * 1e3 if steps else None

    def figures(self) -> dict[str, float]:
        """Medians, by name."""
        found: dict[str, float] = {}
        for kind, runs in self.runs.items():
            name = f"{self.name}_{kind}"
            found[f"{name}_tokens_s"] = round(median(self.rates(kind)), 2)
            steps = [step for run in runs for step in run.steps]
            if len(steps) > 1:
                found[f"{name}_step_p50_ms"] = round(median(steps) * 1e3, 1)
                found[f"{name}_step_p99_ms"] = round(quantiles(steps, n=100)[98] * 1e3, 1)
            if self.nodes:
                cpu_ms = median(run.cpu_s for run in runs) / KINDS[kind].tokens_of_run() * 1e3
                found[f"{name}_node_cpu_ms_token"] = round(cpu_ms, 1)
        if self.nodes:
            found[f"{self.name}_memory_mb"] = round(self.memory_mb())
            found[f"{self.name}_start_s"] = round(median(node.start_s for node in self.nodes), 2)
        return found

    def _cpu_s(self) -> float:
        return sum(_total(node.pid, _cpu_seconds) for node in self.nodes)


class Truth:
    """What the one process generates; asked once for each prompt.

    Args:
        generator: the one process.
    """

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._known: dict[tuple[int, int, int], list[int]] = {}

    def of(self, prompt: int, context: int, tokens: int) -> list[int]:
        key = (prompt % 5, context, tokens)
        if key not in self._known:
            answer = self._generator.ask(prompt=key[0], context=context, tokens=tokens, sessions=1)
            self._known[key] = answer["tokens"][0]
        return self._known[key]

    def departures(self, system: System) -> list[str]:
        """Where tokens of its runs are not the one process's: kind, prompt, and the first that differs."""
        found = []
        for kind, runs in system.runs.items():
            for run in runs:
                for place, tokens in enumerate(run.tokens):
                    known = self.of(run.prompt + place, KINDS[kind].context, KINDS[kind].tokens)
                    if tokens != known:
                        pairs = enumerate(zip(tokens, known, strict=False))
                        same = next(
                            (at for at, (ours, theirs) in pairs if ours != theirs), min(len(tokens), len(known))
                        )
                        found.append(f"{kind}, prompt {(run.prompt + place) % 5}, token {same}")
        return found


def _total(leader: int, of: Callable[[Path], float]) -> float:
    """A sum over the living processes of a session."""
    total = 0.0
    for process in session(leader):
        try:
            total += of(Path("/proc", str(process.pid)))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total


def _pss_bytes(process: Path) -> float:
    found = re.search(r"^Pss: +(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024.0 if found else 0.0


def _cpu_seconds(process: Path) -> float:
    fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
