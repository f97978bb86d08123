"""plumised check-config: names every mistake in a configuration."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from plumised.cli.config_file import add_config_arguments, choice
from plumised.cli.verb import Context, Verb
from plumised.config import ConfigError
from plumised.errors import EXIT_CONFIG

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a list of {file, line, key, problem, remedy}")
    add_config_arguments(parser, file_is_positional=True)


def _run(arguments: Namespace, context: Context) -> int:
    chosen = choice(arguments)
    try:
        chosen.load(context.host_name)
    except ConfigError as error:
        if not arguments.json:
            raise
        json.dump([problem.as_json() for problem in error.problems], context.stdout, indent=2, ensure_ascii=False)
        context.stdout.write("\n")
        return EXIT_CONFIG
    context.stdout.write("[]\n" if arguments.json else f"{chosen.file}: good\n")
    return 0


VERB = Verb("check-config", "say what is wrong with a configuration file", _configure, _run)
