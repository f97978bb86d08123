"""What can be wrong with a configuration, as data: where it is, what it is, what would be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake.

    Attributes:
        file: the configuration file or drop-in that holds it.
        line: line in the file, from 1, where one is known.
        key: dotted name as in `engine.blocks`; None when the whole file is concerned.
        problem: what is wrong, one clause without a full stop.
        remedy: what would be right, one sentence.
    """

    file: Path
    line: int | None
    key: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}" if self.line is None else f"{self.file}:{self.line}"
        subject = self.problem if self.key is None else f"{self.key} {self.problem}"
        return f"{place}: {subject}. {self.remedy}"

    def as_json(self) -> dict[str, str | int | None]:
        """The mistake as `check-config --json` prints it."""
        return {
            "file": str(self.file),
            "line": self.line,
            "key": self.key,
            "problem": self.problem,
            "remedy": self.remedy,
        }


class ConfigError(OperatorError):
    """The configuration cannot be used; `problems` lists every mistake, in the order of files and lines."""

    code = "configuration"

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        more = len(self.problems) - 1
        place = f"{first.file}" if first.line is None else f"{first.file}:{first.line}"
        subject = first.problem if first.key is None else f"{first.key} {first.problem}"
        rest = f" (and {more} more)" if more else ""
        super().__init__(f"{place}: {subject}{rest}", first.remedy)


class UnfitError(ValueError):
    """A value that a key cannot take.

    Attributes:
        problem: what is wrong, to be read after the key's name.
        remedy: what would be right, one sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
