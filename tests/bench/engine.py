"""What two nodes serve: bare Petals, ours, and transformers in one process, in turn, on the model of the demo.

`make bench` runs it. Every run's tokens are compared with those of the one process; a float32 token that differs fails
the whole. Writes build/bench.json: medians, and ratios of runs that followed each other, which is what counts on a
machine that others use as well. Figures depend on the machine; docs/performance.md has those of one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from tests.bench.swarms import BareNode, Generator, OurNode
from tests.devnet.client.process import ROOT
from tests.devnet.model import make_smollm2
from tests.petals.engine_process import session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULT: Final = ROOT / "build" / "bench.json"
SPANS: Final = ((0, 15), (15, 30))
TOKENS: Final = 32


@dataclass(frozen=True)
class Run:
    """What one order to a generator gave.

    Attributes:
        tokens: of each session.
        seconds: from the first prompt to the last token.
        cpu_s: of the nodes meanwhile, all their processes together.
    """

    tokens: list[list[int]]
    seconds: float
    cpu_s: float

    @property
    def count(self) -> int:
        return sum(map(len, self.tokens))


@dataclass
class System:
    """Something that generates, and what it was measured to do."""

    name: str
    generator: Generator
    nodes: list[Any] = field(default_factory=list)
    runs: dict[int, list[Run]] = field(default_factory=dict)

    def run(self, prompt: int, sessions: int) -> None:
        """One measured run, kept in `runs`."""
        before = self._cpu_s()
        tokens, seconds = self.generator.generate(prompt, TOKENS, sessions)
        self.runs.setdefault(sessions, []).append(Run(tokens, seconds, self._cpu_s() - before))

    def rates(self, sessions: int) -> list[float]:
        """Tokens a second of each run, all sessions together."""
        return [run.count / run.seconds for run in self.runs[sessions]]

    def memory_mb(self) -> float:
        """Proportional set size of a node, in units of 10^6 bytes; the median of the nodes."""
        return median(_total(node.pid, _pss_bytes) / 1e6 for node in self.nodes)

    def figures(self) -> dict[str, float]:
        """Medians, by name."""
        found: dict[str, float] = {}
        for sessions, runs in self.runs.items():
            found[f"{self.name}_tokens_s_{sessions}"] = round(median(self.rates(sessions)), 2)
            if self.nodes:
                found[f"{self.name}_node_cpu_ms_token_{sessions}"] = round(
                    median(run.cpu_s / run.count for run in runs) * 1e3, 1
                )
        if self.nodes:
            found[f"{self.name}_memory_mb"] = round(self.memory_mb())
            found[f"{self.name}_start_s"] = round(median(node.start_s for node in self.nodes), 2)
        return found

    def _cpu_s(self) -> float:
        return sum(_total(node.pid, _cpu_seconds) for node in self.nodes)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each system and number of sessions")
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 8], help="numbers of sessions at once")
    arguments = parser.parse_args(argv)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plm-")))
        model = make_smollm2(directory / "model")
        one = System("one_process", stack.enter_context(Generator(model, [], directory / "one.log")))
        bare = _swarm(stack, "bare", model, directory, lambda span, peers: BareNode(model, span, peers, directory))
        ours = _swarm(stack, "f32", model, directory, lambda span, peers: OurNode(model, span, peers, "float32"))
        half = _swarm(stack, "bf16", model, directory, lambda span, peers: OurNode(model, span, peers, "bfloat16"))
        systems = [one, bare, ours, half]
        for system in systems:
            system.generator.generate(0, 4, 1)
        for sessions in arguments.sessions:
            for number in range(arguments.rounds):
                for system in systems:
                    # Threads of one process gain nothing with several sessions, and its tokens are known.
                    if system is not one or sessions == 1:
                        system.run(number, sessions)
                _say(systems, sessions)
        known = {i: one.generator.generate(i, TOKENS, 1)[0][0] for i in range(5)}
        result = _result(one, bare, ours, half, known)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if result["identical_f32"] else 1


def _swarm(
    stack: ExitStack, name: str, model: Path, directory: Path, start: Callable[[tuple[int, int], list[str]], Any]
) -> System:
    nodes: list[Any] = []
    for span in SPANS:
        nodes.append(stack.enter_context(start(span, nodes[0].peers if nodes else [])))
    generator = stack.enter_context(Generator(model, nodes[0].peers, directory / f"{name}.log"))
    return System(name, generator, nodes)


def _result(one: System, bare: System, ours: System, half: System, known: dict[int, list[int]]) -> dict[str, Any]:
    """What is written: only what was measured in this run."""
    ratios: dict[str, float] = {
        "memory_f32": ours.memory_mb() / bare.memory_mb(),
        "memory_bf16": half.memory_mb() / bare.memory_mb(),
        "start": median(a.start_s / b.start_s for a, b in zip(ours.nodes, bare.nodes, strict=True)),
    }
    for sessions in ours.runs:
        if sessions == 1:
            ratios["f32_stock_client"] = _ratio(ours, bare, 1)
            ratios["bf16_stock_client"] = _ratio(half, bare, 1)
            ratios["vs_one_process_f32_stock_client"] = _ratio(ours, one, 1)
        else:
            ratios[f"sessions{sessions}_f32"] = _ratio(ours, bare, sessions)
            ratios[f"sessions{sessions}_bf16"] = _ratio(half, bare, sessions)
    figures: dict[str, float] = {"load_average": round(os.getloadavg()[1], 1), "cores": os.cpu_count() or 0}
    for system in (one, bare, ours, half):
        figures |= system.figures()
    figures["bf16_prompts_equal"] = len(_equal_prompts(half, known))
    return {
        "identical_f32": all(_equal_prompts(system, known) == set(known) & _asked(system) for system in (bare, ours)),
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "figures": figures,
    }


def _ratio(system: System, other: System, sessions: int) -> float:
    """Median of the ratios of runs that followed each other."""
    return median(a / b for a, b in zip(system.rates(sessions), other.rates(sessions), strict=True))


def _asked(system: System) -> set[int]:
    return {prompt for prompt, _ in _answers(system)}


def _equal_prompts(system: System, known: dict[int, list[int]]) -> set[int]:
    """The prompts to which every answer was the known one."""
    wrong = {prompt for prompt, tokens in _answers(system) if tokens != known[prompt]}
    return _asked(system) - wrong


def _answers(system: System) -> list[tuple[int, list[int]]]:
    return [
        ((number + place) % 5, tokens)
        for runs in system.runs.values()
        for number, run in enumerate(runs)
        for place, tokens in enumerate(run.tokens)
    ]


def _say(systems: Sequence[System], sessions: int) -> None:
    rates = (f"{system.name} {system.rates(sessions)[-1]:.1f}" for system in systems if sessions in system.runs)
    print(f"{sessions} at once, tokens/s:", ", ".join(rates), flush=True)


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
