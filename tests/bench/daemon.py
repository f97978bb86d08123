"""What the daemon's own process costs: memory, and processor time while the node idles and while it serves.

`make bench` runs it: one node with a small model, the devnet, and a client that generates without pause in the second
half. Writes build/bench-daemon.json. Figures depend on the machine; docs/performance.md has those of one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.devnet.client import Request
from tests.devnet.client.process import ROOT
from tests.devnet.one_node import one_node

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.devnet.client import LanguageModelClient
    from tests.devnet.node import DevNode

RESULT = ROOT / "build" / "bench-daemon.json"
BLOCKS = 4
PROMPT = tuple(range(5, 21))
DEFAULT_CADENCE = {"oracle": {"interval_s": 60.0}, "chain": {"heartbeat_interval_s": 120.0}}
"""The cadence of the shipped configuration; the devnet's own would make the daemon look busier than it is."""


@dataclass(frozen=True)
class DaemonCost:
    """One run.

    Attributes:
        rss_mb: resident memory at the end, in units of 10^6 bytes.
        idle_core_percent: of one core, while nobody asks for anything.
        busy_core_percent: of one core, while a client generates without pause.
        busy_steps_per_second: what the engine served meanwhile.
        seconds: length of each of the two halves.
    """

    rss_mb: float
    idle_core_percent: float
    busy_core_percent: float
    busy_steps_per_second: float
    seconds: float


async def measure(seconds: float) -> DaemonCost:
    """Measure one daemon, `seconds` idle and as long under load."""
    with tempfile.TemporaryDirectory(prefix="plm-") as name:
        async with one_node(Path(name), BLOCKS, DEFAULT_CADENCE) as running:
            node = running.node
            await node.wait_for("registered")
            daemon = psutil.Process(node.process.pid)
            async with running.client() as client:
                idle = await _share(daemon, asyncio.sleep(seconds))
                before = await _steps(node)
                busy = await _share(daemon, _generate(client, seconds))
                steps = await _steps(node) - before
            return DaemonCost(
                rss_mb=round(daemon.memory_info().rss / 1e6, 1),
                idle_core_percent=round(idle, 2),
                busy_core_percent=round(busy, 2),
                busy_steps_per_second=round(steps / seconds, 1),
                seconds=seconds,
            )


async def _share(process: psutil.Process, work: Awaitable[None]) -> float:
    """Percent of one core that the process uses while the work goes on."""
    started, before = time.monotonic(), process.cpu_times()
    await work
    after, elapsed = process.cpu_times(), time.monotonic() - started
    return 100 * (after.user + after.system - before.user - before.system) / elapsed


async def _generate(client: LanguageModelClient, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await client.generate(Request(32, ids=PROMPT))


async def _steps(node: DevNode) -> int:
    steps: int = (await node.status())["usage"]["total"]["steps"]
    return steps


def main(argv: list[str]) -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each half")
    cost = asyncio.run(measure(parser.parse_args(argv).seconds))
    RESULT.parent.mkdir(exist_ok=True)
    text = json.dumps(asdict(cost), indent=2)
    RESULT.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
