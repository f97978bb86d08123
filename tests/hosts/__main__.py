"""The hosts' engine by hand: python -m tests.hosts start | stop | images | sweep."""

from __future__ import annotations

import argparse
import sys

from tests.hosts.docker_engine import DockerEngine, NoDockerError
from tests.hosts.images import ImageStore
from tests.hosts.ownership import remove_orphans


def main(argv: list[str]) -> int:
    """Carry out one verb; 69 where there is no engine."""
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description="The Docker engine of the tests.")
    parser.add_argument("verb", choices=["start", "stop", "images", "sweep"])
    verb = parser.parse_args(argv).verb
    engine = DockerEngine()
    try:
        if verb == "stop":
            engine.stop()
        elif verb == "start":
            engine.start(keep=True)
        else:
            with engine.in_use():
                if verb == "images":
                    sys.stdout.write(f"{ImageStore.of_user().host()}\n")
                else:
                    remove_orphans()
    except NoDockerError as error:
        sys.stderr.write(f"no Docker engine: {error}\n")
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
