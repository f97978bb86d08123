"""Counters on their way to the ledger."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from plumised.engine.usage import UsageBook, total
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.tally import TallyWriter, tallies, tally_path
from plumised.ledger import LedgerThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def usage(tokens: int) -> Usage:
    return Usage(Counters(tokens=tokens), Counters(), Counters())


def tally(directory: Path, incarnation: str, index: int, tokens: int) -> Path:
    path = tally_path(directory, incarnation, index, 7)
    writer = TallyWriter(path)
    writer.write(usage(tokens))
    writer.close()
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tally"


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerThread]:
    async with await LedgerThread.open(tmp_path / "ledger.sqlite", time.time) as ledger:
        yield ledger


@pytest.fixture
def book(ledger: LedgerThread, directory: Path) -> UsageBook:
    return UsageBook(ledger, directory, retry_s=0.01)


async def test_the_socket_and_the_tally_of_one_handler_count_once(
    book: UsageBook, ledger: LedgerThread, directory: Path
) -> None:
    book.begin("a")
    tally(directory, "a", 0, 10)
    book.take("a", "handler-0-7", usage(8))
    book.take("a", "handler-1-7", usage(5))
    await book.end("a")
    assert (await ledger.totals()).tokens == 15
    assert book.usage == usage(15)
    assert list(directory.iterdir()) == []


async def test_a_crash_between_closing_and_deleting_counts_nothing_twice(
    book: UsageBook, ledger: LedgerThread, directory: Path
) -> None:
    tally(directory, "a", 0, 10)
    await book.end("a")
    tally(directory, "a", 0, 10)
    await book.end_others()
    assert (await ledger.totals()).tokens == 10
    assert list(tallies(directory)) == []


async def test_the_tallies_of_the_running_incarnation_are_left_alone(
    book: UsageBook, ledger: LedgerThread, directory: Path
) -> None:
    tally(directory, "old", 0, 1)
    tally(directory, "older", 0, 2)
    running = tally(directory, "current", 0, 4)
    book.begin("current")
    await book.end_others()
    assert (await ledger.totals()).tokens == 3
    assert [tally.path for tally in tallies(directory)] == [running]


async def test_a_damaged_tally_holds_up_nothing_and_is_told(
    book: UsageBook, ledger: LedgerThread, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = tally(directory, "a", 0, 10)
    damaged.write_bytes(b"?" * 240)
    tally(directory, "a", 1, 5)
    await book.end("a")
    assert (await ledger.totals()).tokens == 5
    assert str(damaged) in caplog.text


async def test_counters_that_no_machine_can_reach_hold_up_nothing(book: UsageBook, ledger: LedgerThread) -> None:
    book.take("a", "handler-0-7", usage(2**63 - 1))
    book.take("a", "handler-1-7", usage(5))
    await book.end("a")
    assert (await ledger.totals()).tokens == 5


async def test_files_of_others_in_an_incarnations_directory_are_kept(
    book: UsageBook, ledger: LedgerThread, directory: Path
) -> None:
    stray = tally(directory, "a", 0, 1).with_name("notes.txt")
    stray.touch()
    await book.end("a")
    assert (await ledger.totals()).tokens == 1
    assert [path.name for path in stray.parent.iterdir()] == ["notes.txt"]


async def test_what_comes_over_the_socket_is_delivered_while_it_runs(book: UsageBook, ledger: LedgerThread) -> None:
    book.begin("a")
    async with asyncio.timeout(30):
        task = asyncio.create_task(book.run())
        book.take("a", "handler-0-7", usage(3))
        while (await ledger.totals()).tokens != 3:
            await asyncio.sleep(0)
        task.cancel()


def test_a_total_is_the_sum_of_each_counter() -> None:
    one = Usage(Counters(1, 2, 3, 4), Counters(5, 6, 7, 8), Counters(9, 10, 11, 12))
    assert total([one, one]) == Usage(Counters(2, 4, 6, 8), Counters(10, 12, 14, 16), Counters(18, 20, 22, 24))
    assert total([]) == usage(0)
