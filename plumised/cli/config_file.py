"""Which configuration a verb means: --config, or --instance, or that of the only node of the machine."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plumised.config import load
from plumised.config.layout import PLAIN, Layout, instance
from plumised.config.problems import UnfitError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from plumised.config import Settings


@dataclass(frozen=True, slots=True)
class ConfigChoice:
    """The configuration that the arguments name.

    Attributes:
        file: node.toml or what stands for it.
        layout: where its directories are by default.
        packaged: the file is the layout's, so that the package's unit reads it as well.
    """

    file: Path
    layout: Layout
    packaged: bool

    def load(self, host_name: str) -> Settings:
        """Read and check it. Raises as `plumised.config.load`."""
        return load(self.file, host_name=host_name, layout=self.layout)


def add_config_arguments(parser: ArgumentParser, *, file_is_positional: bool = False) -> None:
    """Add --config (or FILE) and --instance, of which at most one is taken."""
    either = parser.add_mutually_exclusive_group()
    meaning = f"the configuration (default: {PLAIN.config_file})"
    if file_is_positional:
        either.add_argument("config", nargs="?", type=Path, metavar="FILE", help=meaning)
    else:
        either.add_argument("--config", type=Path, metavar="FILE", help=meaning)
    either.add_argument(
        "--instance",
        type=_layout,
        metavar="NAME",
        help="the node of plumised@NAME.service: /etc/plumise/NAME.toml, and by default directories named plumise-NAME",
    )


def choice(arguments: Namespace) -> ConfigChoice:
    """The configuration that the arguments name."""
    layout: Layout = arguments.instance or PLAIN
    file: Path = layout.config_file if arguments.config is None else arguments.config
    return ConfigChoice(file, layout, packaged=file.absolute() == layout.config_file)


def _layout(name: str) -> Layout:
    try:
        return instance(name)
    except UnfitError as error:
        raise ArgumentTypeError(f"the name {error.problem}. {error.remedy}") from None
