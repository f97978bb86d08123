"""The command line as data: its verbs with their options, as the parser has them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from plumised.cli.main import parser

if TYPE_CHECKING:
    from collections.abc import Iterator


class Value(Enum):
    """What an argument takes."""

    NOTHING = auto()
    FILE = auto()
    INSTANCE = auto()
    CHOICE = auto()
    TEXT = auto()


@dataclass(frozen=True, slots=True)
class Argument:
    """An option or a positional argument.

    Attributes:
        flags: of an option, the long one last; empty for a positional argument.
        value: what it takes.
        metavar: what stands for the value; empty where there is none.
        choices: all values, of a choice.
        help: one sentence without a full stop.
        required: the command makes no sense without it.
    """

    flags: tuple[str, ...]
    value: Value
    metavar: str
    choices: tuple[str, ...]
    help: str
    required: bool


@dataclass(frozen=True, slots=True)
class Command:
    """What can be typed.

    Attributes:
        words: from `plumised` on.
        summary: one sentence without a full stop.
        arguments: in the order of --help, without --help itself.
        below: the commands that go on from here.
    """

    words: tuple[str, ...]
    summary: str
    arguments: tuple[Argument, ...]
    below: tuple[Command, ...]

    @property
    def name(self) -> str:
        """As typed."""
        return " ".join(self.words)

    def all(self) -> Iterator[Command]:
        """This command and all below it."""
        yield self
        for command in self.below:
            yield from command.all()


def surface() -> Command:
    """The whole command line."""
    return _command(("plumised",), parser())


def _command(words: tuple[str, ...], taking: argparse.ArgumentParser) -> Command:
    arguments: list[Argument] = []
    below: list[Command] = []
    for action in taking._actions:  # noqa: SLF001 - argparse tells of itself in no other way
        match action:
            case argparse._SubParsersAction():  # noqa: SLF001 - as above
                below += [_command((*words, name), each) for name, each in action.choices.items()]
            case argparse._HelpAction():  # noqa: SLF001 - as above
                pass
            case _:
                arguments.append(_argument(action))
    return Command(words, taking.description or "", tuple(arguments), tuple(below))


def _argument(action: argparse.Action) -> Argument:
    choices = tuple(map(str, action.choices or ()))
    takes_nothing = action.nargs == 0
    metavar = "" if takes_nothing else _metavar(action, choices)
    return Argument(
        flags=tuple(action.option_strings),
        value=Value.NOTHING if takes_nothing else _value(metavar, choices),
        metavar=metavar,
        choices=choices,
        help=action.help or "",
        required=action.required,
    )


def _metavar(action: argparse.Action, choices: tuple[str, ...]) -> str:
    return str(action.metavar) if action.metavar else "|".join(choices) or action.dest.upper()


def _value(metavar: str, choices: tuple[str, ...]) -> Value:
    if choices:
        return Value.CHOICE
    return {"FILE": Value.FILE, "PATH": Value.FILE, "NAME": Value.INSTANCE}.get(metavar, Value.TEXT)
