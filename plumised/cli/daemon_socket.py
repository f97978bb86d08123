"""Which daemon the verbs that talk to one mean: --socket, or the configuration's control socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.verb import DEFAULT_CONFIG, Context
from plumised.config import ConfigError, load
from plumised.observe.control_client import ControlClient

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

DEFAULT_SOCKET = Path("/run/plumise/control.sock")


def add_daemon_arguments(parser: ArgumentParser) -> None:
    """Add --socket and --config."""
    parser.add_argument("--socket", type=Path, metavar="PATH", help="the daemon's control socket")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"find the socket in this file (default: {DEFAULT_CONFIG})"
    )


def client(arguments: Namespace, context: Context) -> ControlClient:
    """The client for the daemon that the arguments name.

    Raises:
        ConfigError: the file that --config names is wrong. The default file may be wrong or unreadable: that keeps
            nobody from asking a daemon that runs.
    """
    if arguments.socket is not None:
        return ControlClient(arguments.socket)
    if arguments.config is not None:
        return ControlClient(load(arguments.config, host_name=context.host_name).node.control_socket)
    try:
        return ControlClient(load(DEFAULT_CONFIG, host_name=context.host_name).node.control_socket)
    except ConfigError:
        return ControlClient(DEFAULT_SOCKET)
