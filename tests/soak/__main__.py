"""`make soak`: two nodes serve under load for HOURS while faults come at random, and must not use more and more.

Writes build/soak/soak.json, soak.md and soak.png. Exit status 0 if everything that was sampled is flat, what was served
is booked, no token was wrong and nothing is left behind; 1 if not; 69 where no Docker engine can be had.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.devnet.client.process import ROOT
from tests.devnet.model import make_bloom, open_to_all
from tests.e2e.cluster import Images
from tests.hosts.docker_engine import DockerEngine, NoDockerError
from tests.hosts.images import ImageStore
from tests.hosts.ownership import remove_mine, remove_orphans
from tests.packaging.repository import NODE, Repository, renamed
from tests.soak.course import BLOCKS, DIRECTORY, Plan, soak
from tests.soak.figures import FIGURES
from tests.soak.plot import draw

if TYPE_CHECKING:
    from tests.soak.outcome import Outcome
    from tests.soak.sampling import Sampler


def main(argv: list[str]) -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=0.25, help="how long in all (default: 0.25)")
    parser.add_argument(
        "--seed", type=int, default=time.time_ns() % 10**6, help="of the faults (default: by the clock)"
    )
    arguments = parser.parse_args(argv)
    plan = Plan(arguments.hours, arguments.seed)
    print(f"{plan.hours:g} h, seed {plan.seed}", flush=True)
    try:
        with DockerEngine().in_use():
            remove_orphans()
            try:
                outcome, sampler = _soaked(plan)
            finally:
                remove_mine()
    except NoDockerError as error:
        sys.stderr.write(f"no Docker engine: {error}\n")
        return 69
    _write(outcome, sampler)
    print(outcome.page())
    return 1 if outcome.shortcomings() else 0


def _soaked(plan: Plan) -> tuple[Outcome, Sampler]:
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    repository = Repository(ROOT / "dist" / "apt")
    images = Images.built(ImageStore.of_user(), repository)
    with tempfile.TemporaryDirectory(prefix="plm-") as name:
        place = Path(name)
        model = open_to_all(make_bloom(place / "model", blocks=BLOCKS))
        upgrade = place / "upgrade"
        upgrade.mkdir()
        renamed(repository.package(NODE), "99", upgrade, {})
        began = time.monotonic()
        return soak(
            plan,
            images,
            model,
            upgrade,
            lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True),
        )


def _write(outcome: Outcome, sampler: Sampler) -> None:
    samples = {
        node: {
            figure.name: [[round(point.at_s, 1), point.value] for point in sampler.points(node, figure)]
            for figure in FIGURES
        }
        for node in sampler.samples
    }
    shortcomings = outcome.shortcomings()
    found = {"flat": not shortcomings, "shortcomings": shortcomings} | asdict(outcome) | {"samples": samples}
    (DIRECTORY / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    (DIRECTORY / "soak.md").write_text(outcome.page())
    draw(outcome, sampler, DIRECTORY / "soak.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
