"""What run_e2e.sh asks for: python -m tests.e2e environment DIRECTORY | up | verify."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.devnet.client.process import ROOT
from tests.devnet.model import make_bloom, open_to_all
from tests.devnet.model.cache import cache_root
from tests.e2e import composed
from tests.e2e.cluster import Images
from tests.hosts.docker_engine import DockerEngine
from tests.hosts.images import ImageStore
from tests.packaging.repository import Repository

BLOCKS = 24


def environment(directory: Path) -> str:
    """The variables of docker-compose.test.yml, after building images and checkpoint."""
    model = open_to_all(make_bloom(directory / "model", blocks=BLOCKS))
    images = Images.built(ImageStore.of_user(), Repository(ROOT / "dist" / "apt"))
    values = {
        "HOST_IMAGE": images.bare,
        "NODE_IMAGE": images.node,
        "SOURCE": str(ROOT),
        "ENVIRONMENTS": str(cache_root(os.environ) / "env"),
        "MODEL": str(model),
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def main(argv: list[str]) -> int:
    """Carry out one verb."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("verb", choices=["environment", "up", "verify"])
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "e2e" / "compose")
    arguments = parser.parse_args(argv)
    match arguments.verb:
        case "environment":
            directory: Path = arguments.directory.resolve()
            directory.mkdir(parents=True, exist_ok=True)
            with DockerEngine().in_use():
                (directory / "environment").write_text(environment(directory))
        case "up":
            composed.set_up()
        case _:
            print(composed.render(composed.verify()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
