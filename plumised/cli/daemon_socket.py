"""Which daemon the verbs that talk to one mean: --socket, or the configuration's control socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.config_file import add_config_arguments, choice
from plumised.config import ConfigError
from plumised.observe.control_client import ControlClient

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from plumised.cli.verb import Context


def add_daemon_arguments(parser: ArgumentParser) -> None:
    """Add --socket, --config and --instance."""
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="the daemon's control socket; by default as configured"
    )
    add_config_arguments(parser)


def client(arguments: Namespace, context: Context) -> ControlClient:
    """The client for the daemon that the arguments name.

    Raises:
        ConfigError: the file that --config names is wrong. A file of the package's layout may be wrong or unreadable:
            that keeps nobody from asking a daemon that runs.
    """
    if arguments.socket is not None:
        return ControlClient(arguments.socket)
    chosen = choice(arguments)
    try:
        return ControlClient(chosen.load(context.host_name).node.control_socket)
    except ConfigError:
        if arguments.config is not None:
            raise
        return ControlClient(chosen.layout.control_socket)
