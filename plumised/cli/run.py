"""plumised run: the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.cli.config_file import add_config_arguments, choice
from plumised.cli.verb import Context, Verb
from plumised.config import Origin

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--daemonize",
        action="store_true",
        help="go into the background, for hosts without systemd; the log is plumised.log in node.state_dir",
    )


def _run(arguments: Namespace, context: Context) -> int:
    chosen = choice(arguments)
    origin = Origin(chosen.file.absolute(), context.host_name, chosen.layout)
    settings = origin.read()
    # What the daemon needs takes a second to import, which no mistake in the configuration should wait for.
    from plumised.daemon import run as run_daemon  # noqa: PLC0415 - see above

    if arguments.daemonize:
        from plumised.cli import background  # noqa: PLC0415 - for hosts without systemd only

        background.enter(settings.node.state_dir / "plumised.log")
    return run_daemon(settings, origin=origin, environ=context.environ)


VERB = Verb("run", "run the daemon", _configure, _run)
