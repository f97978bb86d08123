"""plumised check-config: names every mistake in a configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.verb import DEFAULT_CONFIG, Context, Verb
from plumised.config import ConfigError, load
from plumised.errors import EXIT_CONFIG

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a list of {file, line, key, problem, remedy}")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_CONFIG, metavar="FILE")


def _run(arguments: Namespace, context: Context) -> int:
    file: Path = arguments.file
    try:
        load(file, host_name=context.host_name)
    except ConfigError as error:
        if not arguments.json:
            raise
        json.dump([problem.as_json() for problem in error.problems], context.stdout, indent=2, ensure_ascii=False)
        context.stdout.write("\n")
        return EXIT_CONFIG
    context.stdout.write("[]\n" if arguments.json else f"{file}: good\n")
    return 0


VERB = Verb("check-config", "say what is wrong with a configuration file", _configure, _run)
