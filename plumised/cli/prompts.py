"""Asks for secrets at the terminal: never echoed, never taken from anywhere else."""

from __future__ import annotations

import getpass
import warnings

from plumised.errors import PlumisedError


class PromptError(PlumisedError):
    """A secret could not be asked for, or what was typed is no use."""

    code = "prompt"


def ask(what: str) -> str:
    """What the person at the terminal types.

    Raises:
        PromptError: there is no terminal that can hide it, or the input ended.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{what}: ")
        except getpass.GetPassWarning:
            raise PromptError(
                f"{what} cannot be asked for: there is no terminal", "Run this at a terminal, or name a file instead."
            ) from None
        except EOFError:
            raise PromptError(f"{what} was not given: the input ended", "Type it and press Enter.") from None


def ask_twice(what: str) -> str:
    """What the person types, and types again.

    Raises:
        PromptError: as `ask`, or the two differ.
    """
    first = ask(what)
    if ask(f"{what}, again") != first:
        raise PromptError("The two passwords differ", "Try again.")
    return first
