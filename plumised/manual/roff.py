"""The little of man(7) that the pages are written in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_QUOTED = re.compile(r"`([^`]+)`")


def text(words: str) -> str:
    """Running text on one line; what stands in backquotes is set in bold."""
    parts = []
    for number, part in enumerate(_QUOTED.split(" ".join(words.split()))):
        parts.append(bold(part) if number % 2 else escaped(part))
    return _guarded("".join(parts))


def bold(words: str) -> str:
    """The words in bold, to be typed as they are."""
    return rf"\fB{escaped(words, typed=True)}\fP"


def italic(words: str) -> str:
    """The words in italics, to be replaced."""
    return rf"\fI{escaped(words)}\fP"


def title(name: str, section: int, *, date: str, source: str) -> Iterator[str]:
    """The heading of the page; the date may be empty."""
    yield f'.TH {escaped(name.upper())} {section} "{date}" "{source}"'
    # What is to be typed must not be divided.
    yield ".nh"
    yield ".ad l"


def heading(words: str) -> str:
    """A section."""
    return f'.SH "{escaped(words)}"'


def subheading(words: str) -> str:
    """A section within a section."""
    return f'.SS "{escaped(words, typed=True)}"'


def paragraphs(words: str) -> Iterator[str]:
    """Text whose paragraphs are divided by empty lines."""
    for paragraph in words.strip().split("\n\n"):
        yield ".PP"
        yield text(paragraph)


def item(tag: str, *lines: str) -> Iterator[str]:
    """A term, which is set already, and the text that explains it; each further line is a paragraph below it."""
    yield ".TP"
    yield _guarded(tag)
    for number, line in enumerate(lines):
        if number:
            yield ".IP"
        yield text(line)


def example(lines: Iterable[str]) -> Iterator[str]:
    """Lines to be typed or copied as they are."""
    yield ".PP"
    yield ".RS 4"
    yield ".EX"
    for line in lines:
        yield _guarded(escaped(line, typed=True))
    yield ".EE"
    yield ".RE"


def escaped(words: str, *, typed: bool = False) -> str:
    """The words with everything that roff would take for something else made literal.

    Args:
        words: any text.
        typed: a hyphen is the character that one types, not the one that one reads.
    """
    made = words.replace("\\", r"\e").replace('"', r"\(dq").replace("`", r"\(ga").replace("^", r"\(ha")
    made = made.replace("~", r"\(ti").replace("'", r"\(aq" if typed else "'")
    if typed or made.startswith("-"):
        made = made.replace("-", r"\-")
    # Inside running text an option is typed as well.
    made = re.sub(r"(?<![\w\\-])--(?=\w)", r"\\-\\-", made)
    return _NON_ASCII.sub(lambda match: rf"\[u{ord(match[0]):04X}]", made)


def _guarded(line: str) -> str:
    return rf"\&{line}" if line[:1] in {".", "'"} else line
