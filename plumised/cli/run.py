"""plumised run: the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.verb import DEFAULT_CONFIG, Context, Verb
from plumised.config import load

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
    )
    parser.add_argument(
        "--daemonize",
        action="store_true",
        help="go into the background, for hosts without systemd; the log is plumised.log in node.state_dir",
    )


def _run(arguments: Namespace, context: Context) -> int:
    file: Path = arguments.config.absolute()
    settings = load(file, host_name=context.host_name)
    # What the daemon needs takes a second to import, which no mistake in the configuration should wait for.
    from plumised.daemon import run as run_daemon  # noqa: PLC0415 - see above

    if arguments.daemonize:
        from plumised.cli import background  # noqa: PLC0415 - for hosts without systemd only

        background.enter(settings.node.state_dir / "plumised.log")
    return run_daemon(settings, config_file=file, environ=context.environ)


VERB = Verb("run", "run the daemon", _configure, _run)
