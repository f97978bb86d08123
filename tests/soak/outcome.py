"""What came of a soak: as data, as a verdict, as a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.soak.judgement import Judgement
    from tests.soak.storm import Struck

SESSIONS_IN_CALM: Final = 1
"""As many sessions must end well once nothing is wrong any more."""


@dataclass(frozen=True)
class Books:
    """Tokens that a node says it served, and that the Oracle booked for it."""

    served: int
    booked: int


@dataclass(frozen=True)
class Sessions:
    """What became of the clients' sessions.

    Attributes:
        finished: those that gave all of their tokens.
        failed: those that did not.
        wrong: those that gave other tokens than one process does.
        finished_in_calm, failed_in_calm: after the last fault.
    """

    finished: int
    failed: int
    wrong: int
    finished_in_calm: int
    failed_in_calm: int


@dataclass(frozen=True)
class Outcome:
    """A soak.

    Attributes:
        seconds: its length, from the first fault's time to the end of the calm.
        calm_s: when the calm began.
        faults: those that were made.
        unrecovered: what did not become well again; empty if all did.
        books: of each node.
        left: what was still there after the nodes had been stopped, and after their hosts were gone.
        defects: what the journals have of the daemons' own mistakes, and what the probe failed at.
        judgements: of each figure of each node.
    """

    seed: int
    hours: float
    seconds: float
    calm_s: float
    faults: tuple[Struck, ...]
    unrecovered: str
    sessions: Sessions
    books: Mapping[str, Books]
    left: tuple[str, ...]
    defects: tuple[str, ...]
    judgements: Mapping[str, Mapping[str, Judgement]]

    def shortcomings(self) -> list[str]:
        """What is not as it must be; empty if all is."""
        found = [f"not well again: {self.unrecovered}"] if self.unrecovered else []
        found += [] if self.faults else ["no fault was made"]
        found += [f"{self.sessions.wrong} sessions gave wrong tokens"] if self.sessions.wrong else []
        if self.sessions.finished_in_calm < SESSIONS_IN_CALM:
            found.append("no session ended well after the last fault")
        if self.sessions.failed_in_calm:
            found.append(f"{self.sessions.failed_in_calm} sessions failed after the last fault")
        found += [
            f"{name}: served {books.served}, booked {books.booked}"
            for name, books in self.books.items()
            if books.served != books.booked or not books.served
        ]
        found += [f"left behind: {each}" for each in self.left]
        found += [f"defect: {each}" for each in self.defects]
        found += [
            f"{name}: {figure}: {'too few samples' if each.within is None else 'grows'}"
            for name, figures in self.judgements.items()
            for figure, each in figures.items()
            if not each.flat
        ]
        return found

    def page(self) -> str:
        """The outcome as Markdown."""
        shortcomings = self.shortcomings()
        lines = [
            "# Soak",
            "",
            f"{self.seconds / 60:.1f} min, the last {(self.seconds - self.calm_s) / 60:.1f} of them without faults.",
            f"`make soak HOURS={self.hours:g} SEED={self.seed}` draws the same faults.",
            "",
            f"**{'FAILED' if shortcomings else 'flat'}**",
            *(f"- {each}" for each in shortcomings),
            "",
            f"{self.sessions.finished} sessions ended well, {self.sessions.failed} failed and were tried again.",
            *(f"{name}: served {books.served} tokens, booked {books.booked}." for name, books in self.books.items()),
            "",
            "![samples](soak.png)",
            "",
            "| node | figure | level | growth in a life | from life to life | allowed | lives | flat |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {name} | {figure} | {_number(each.level)} | {_number(each.within)} | {_number(each.between)} |"
            f" {_number(each.allowed)} | {each.lives} | {'yes' if each.flat else 'NO'} |"
            for name, figures in self.judgements.items()
            for figure, each in figures.items()
        ]
        lines += ["", "| at | fault | node | lasted | well again after |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {each.began_s:.0f} s | {each.fault} | {each.victim} | {each.ended_s - each.began_s:.0f} s |"
            f" {each.well_after_s:.0f} s |"
            for each in self.faults
        ]
        return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")
