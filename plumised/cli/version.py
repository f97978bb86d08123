"""plumised version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised import __version__
from plumised.cli.verb import Context, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(_parser: ArgumentParser) -> None:
    """There is nothing to configure."""


def _run(_arguments: Namespace, context: Context) -> int:
    context.stdout.write(f"plumised {__version__}\n")
    return 0


VERB = Verb("version", "print the version", _configure, _run)
