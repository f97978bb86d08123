"""The engine's output, cut into lines and kept."""

import asyncio
import logging
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.engine.tail import Lines, Tail

LOGGER = logging.getLogger("tests.tail")


@given(st.binary(max_size=500), st.lists(st.integers(0, 500), max_size=10))
def test_lines_do_not_depend_on_how_the_bytes_are_cut(data: bytes, at: list[int]) -> None:
    whole, cut = Lines(40), Lines(40)
    expected = whole.feed(data) + whole.end()
    borders = [0, *sorted(min(position, len(data)) for position in at), len(data)]
    found = [line for start, end in pairwise(borders) for line in cut.feed(data[start:end])]
    assert found + cut.end() == expected


@given(st.lists(st.binary(max_size=2000), max_size=10))
def test_no_line_is_longer_than_the_limit(parts: list[bytes]) -> None:
    lines = Lines(100)
    for line in [line for part in parts for line in lines.feed(part)] + lines.end():
        assert 0 < len(line) <= 101


def test_progress_bars_are_lines_and_empty_lines_are_not() -> None:
    assert Lines().feed(b"  1%\r 50%\r\n\n\r\n100%\n") == ["  1%", " 50%", "100%"]


def test_a_long_line_is_cut_and_marked() -> None:
    assert Lines(5).feed(b"123456789\nabc\n") == ["12345…", "abc"]


def test_only_the_last_lines_are_kept() -> None:
    tail = Tail(LOGGER, keep=3)
    for number in range(10):
        tail.add(str(number))
    assert tail.lines == ("7", "8", "9")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("Nov 22 16:00:00.123 [WARN] [hivemind.dht] late", logging.WARNING),
        ("ERROR plumised.petals: no", logging.ERROR),
        ("[DEBUG] detail", logging.DEBUG),
        ("ERRORS: 0", logging.INFO),
        ("Traceback (most recent call last):", logging.INFO),
    ],
)
def test_a_line_is_logged_with_the_level_that_it_names(caplog: pytest.LogCaptureFixture, line: str, level: int) -> None:
    with caplog.at_level(logging.DEBUG):
        Tail(LOGGER).add(line)
    assert [(record.levelno, record.message) for record in caplog.records] == [(level, line)]


async def test_a_stream_is_followed_to_its_end() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\ntw")
    stream.feed_data(b"o\nthree")
    stream.feed_eof()
    tail = Tail(LOGGER)
    await tail.follow(stream)
    assert tail.lines == ("one", "two", "three")
