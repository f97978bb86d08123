"""What two nodes serve: bare Petals, ours, and transformers in one process, in turn, on one model.

`make bench` runs it. The tokens of every run are compared with those of the one process; one of ours that differs in
float32 fails the whole, and `departures` names every one, of whatever system. Writes build/bench.json: medians, and
ratios of runs that followed each other, which is what counts on a machine that others use as well. Figures depend on
the machine; docs/performance.md has those of one.

    build/env/dev/bin/python -m tests.bench.engine --rounds 3 --only one sessions8
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from tests.bench.plot import draw
from tests.bench.swarms import BareNode, Generator, OurNode
from tests.bench.systems import KINDS, System, Truth
from tests.devnet.client.process import ROOT
from tests.devnet.model import make_bloom, make_llama, make_smollm2
from tests.petals.engine_process import ENGINE_PYTHON

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUILD: Final = ROOT / "build"
DAEMON: Final = BUILD / "bench-daemon.json"
AGREEMENT_TOKENS: Final = 64
"""How far bfloat16 is compared."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.engine", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each system and kind")
    parser.add_argument("--only", nargs="+", choices=[*KINDS, "hop"], default=[*KINDS, "hop"], help="what is measured")
    parser.add_argument("--model", choices=["smollm2", "bloom560"], default="smollm2")
    parser.add_argument(
        "--quantized", nargs="+", choices=["int8", "nf4"], default=[], help="also ours with such weights, own client"
    )
    parser.add_argument("--plot", type=Path, help="draw the rates here, as SVG")
    arguments = parser.parse_args(argv)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plm-")))
        result = _measure(stack, directory, arguments)
    out = BUILD / ("bench.json" if arguments.model == "smollm2" else "bench-bloom560.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if arguments.plot:
        draw(result["figures"], arguments.plot)
    return 0 if result["identical_f32"] else 1


@dataclass(frozen=True)
class Systems:
    """What is compared: the one process, bare Petals, our nodes with either client, in bfloat16, and quantized."""

    one: System
    bare: System
    stock: System
    own: System
    half: System
    quantized: Sequence[System]

    def every(self) -> list[System]:
        return [self.one, self.bare, self.stock, self.own, self.half, *self.quantized]


def _systems(stack: ExitStack, directory: Path, model: Path, blocks: int, quantizations: Sequence[str]) -> Systems:
    spans = ((0, blocks // 2), (blocks // 2, blocks))

    def swarm(start: Callable[[tuple[int, int], list[str]], Any]) -> list[Any]:
        nodes: list[Any] = []
        for span in spans:
            nodes.append(stack.enter_context(start(span, nodes[0].peers if nodes else [])))
        return nodes

    def generator(kind: str, name: str, nodes: Sequence[Any] = ()) -> Generator:
        peers = nodes[0].peers if nodes else []
        return stack.enter_context(Generator(kind, model, peers, directory / f"{name}.log"))

    one = System("one_process", generator("local", "one"), alone=True)
    bare = swarm(lambda span, peers: BareNode(model, span, peers, directory))
    ours = swarm(lambda span, peers: OurNode(model, span, peers, "float32"))
    half = swarm(lambda span, peers: OurNode(model, span, peers, "bfloat16"))

    def quantized(quantization: str) -> System:
        nodes = swarm(lambda span, peers: OurNode(model, span, peers, "float32", quantization))
        name = f"{quantization}_own_client"
        return System(name, generator("own", quantization, nodes), nodes, own_client=True)

    return Systems(
        one=one,
        bare=System("bare", generator("stock", "bare", bare), bare),
        stock=System("f32_stock_client", generator("stock", "stock", ours), ours),
        own=System("f32_own_client", generator("own", "own", ours), ours, own_client=True),
        half=System("bf16_own_client", generator("own", "half", half), half, own_client=True),
        quantized=[quantized(quantization) for quantization in quantizations],
    )


def _measure(stack: ExitStack, directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.model == "smollm2":
        model, blocks = make_smollm2(directory / "model"), 30
    else:
        # The shape of bloom-560m, random weights.
        model, blocks = make_bloom(directory / "model", blocks=24, hidden=1024, heads=16, vocab=250_880), 24
    systems = _systems(stack, directory, model, blocks, arguments.quantized)
    kinds = [kind for kind in arguments.only if kind in KINDS]
    for system in systems.every():
        system.generator.ask(prompt=0, context=0, tokens=4, sessions=1)
    for kind in kinds:
        for number in range(arguments.rounds):
            for system in systems.every():
                if system.takes(KINDS[kind]):
                    system.run(kind, number)
            _say(systems.every(), kind)
    hop_ms = _hop_ms(directory) if "hop" in arguments.only else None
    return _result(systems, kinds, json.loads((model / "config.json").read_text())["hidden_size"], hop_ms)


def _result(systems: Systems, kinds: Sequence[str], hidden: int, hop_ms: float | None) -> dict[str, Any]:
    """What is written: only what was measured in this run, and what the daemon was measured to cost."""
    truth = Truth(systems.one.generator)
    departures = {system.name: truth.departures(system) for system in systems.every()}
    result: dict[str, Any] = {
        # Of ours: Petals' own sums are of another order than the one process's as well.
        "identical_f32": not any(departures[system.name] for system in (systems.stock, systems.own)),
        "ratios": {name: round(ratio, 2) for name, ratio in _ratios(systems, kinds).items()},
    }
    figures: dict[str, float] = {"load_average": round(os.getloadavg()[1], 1), "cores": os.cpu_count() or 0}
    for system in systems.every():
        figures |= system.figures()
        for kind in system.runs:
            if system is not systems.bare and system is not systems.one:
                figures[f"{system.name}_{kind}_ratio_to_bare"] = round(_ratio(system, systems.bare, kind), 2)
    figures["bf16_prompts_equal_of_5"] = sum(
        systems.half.generator.ask(prompt=prompt, context=0, tokens=AGREEMENT_TOKENS, sessions=1)["tokens"][0]
        == truth.of(prompt, 0, AGREEMENT_TOKENS)
        for prompt in range(5)
    )
    if hop_ms is not None:
        figures["own_client_hop_ms"] = round(hop_ms, 2)
    if (step_ms := systems.own.step_ms("one")) is not None:
        counting_us = _counting_us(hidden)
        figures["counting_us_step"] = round(counting_us, 1)
        # Of what each of the two nodes contributes to a step.
        result["counting_share_percent"] = round(100 * counting_us / (step_ms * 1e3 / 2), 2)
    if DAEMON.exists():
        cost = json.loads(DAEMON.read_text())
        result["daemon"] = {name: cost[name] for name in ("idle_core_percent", "busy_core_percent", "rss_mb")}
        figures["daemon_busy_steps_s"] = cost["busy_steps_per_second"]
    return result | {"figures": figures, "departures": {name: found for name, found in departures.items() if found}}


def _ratios(systems: Systems, kinds: Sequence[str]) -> dict[str, float]:
    bare, own = systems.bare, systems.own
    starts = zip(own.nodes, bare.nodes, strict=True)
    ratios = {
        "memory_f32": own.memory_mb() / bare.memory_mb(),
        "memory_bf16": systems.half.memory_mb() / bare.memory_mb(),
        "start": median(ours.start_s / theirs.start_s for ours, theirs in starts),
    }
    if "one" in kinds:
        ratios |= {system.name: _ratio(system, bare, "one") for system in (systems.stock, own, systems.half)}
        ratios["vs_one_process_f32"] = _ratio(own, systems.one, "one")
    if "sessions8" in kinds:
        ratios["sessions8_f32"] = _ratio(own, bare, "sessions8")
    return ratios


def _ratio(system: System, other: System, kind: str) -> float:
    """Median of the ratios of runs that followed each other."""
    return median(a / b for a, b in zip(system.rates(kind), other.rates(kind), strict=True))


def _say(systems: Sequence[System], kind: str) -> None:
    rates = (f"{system.name} {system.rates(kind)[-1]:.1f}" for system in systems if kind in system.runs)
    print(f"{kind}, tokens/s:", ", ".join(rates), flush=True)


def _hop_ms(directory: Path) -> float:
    """What a server more adds to a step, of next to no computing: the difference of medians."""
    model = make_llama(directory / "small", blocks=4)
    times: dict[int, float] = {}
    for spans in (((0, 4),), ((0, 2), (2, 4))):
        with ExitStack() as stack:
            nodes: list[OurNode] = []
            for span in spans:
                nodes.append(stack.enter_context(OurNode(model, span, nodes[0].peers if nodes else [], "float32")))
            log = directory / f"hop-{len(spans)}.log"
            generator = stack.enter_context(Generator("own", model, nodes[0].peers, log))
            generator.ask(prompt=0, context=0, tokens=50, sessions=1)
            steps: list[float] = generator.ask(prompt=0, context=0, tokens=300, sessions=1)["steps"]
            times[len(spans)] = median(steps)
    return (times[2] - times[1]) * 1e3


def _counting_us(hidden: int) -> float:
    """What counting and digesting one step of one token costs."""
    run = subprocess.run(
        [ENGINE_PYTHON, "-m", "tests.bench.proofs", "--hidden", str(hidden), "--json"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        check=True,
    )
    return float(json.loads(run.stdout)["step_us"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
