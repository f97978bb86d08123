"""Proofs on their way from the handlers' segments to the ledger's outbox."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from eth_utils.crypto import keccak

from plumised.chain.calldata import model_hash
from plumised.engine.usage import UsageBook
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.proofs import ProofWriter, segments
from plumised.ipc.tally import TallyWriter, tally_path
from plumised.ledger import LedgerThread, LedgerUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from plumised.ipc.proofs import RequestSlot
    from plumised.ledger import Proof

MODEL = "bigscience/bloom-560m"


class Handler:
    """Serves requests of one token a step, as the engine's handlers keep them."""

    def __init__(self, directory: Path, incarnation: str = "a", slots: int = 4) -> None:
        self.writer = ProofWriter(directory, incarnation, 0, 7, bytes(keccak(text=MODEL)), slots=slots)
        self.tally = TallyWriter(tally_path(directory, incarnation, 0, 7))
        self.steps = 0

    def serve(self, slot: RequestSlot | None = None, *, counted: bool = True) -> RequestSlot:
        slot = slot or self.writer.open()
        self.steps += 1
        slot.write(self.steps, self.steps, bytes([self.steps]) * 32, bytes([100 + self.steps]) * 32)
        if counted:
            self.tally.write(Usage(Counters(0, self.steps, self.steps, 0), Counters(), Counters()))
        return slot


@dataclass
class Sink:
    """A ledger that can refuse proofs, and knows what was offered."""

    ledger: LedgerThread
    refuse: bool = False
    offered: list[str] = field(default_factory=list)

    async def record_usage(self, incarnation: str, handler: str, usage: Usage) -> object:
        return await self.ledger.record_usage(incarnation, handler, usage)

    async def add_proofs(self, proofs: Iterable[Proof]) -> None:
        if self.refuse:
            raise LedgerUnavailableError("the disk is full", "free some")
        kept = tuple(proofs)
        self.offered += [proof.key for proof in kept]
        await self.ledger.add_proofs(kept)

    async def close_incarnation(self, incarnation: str) -> object:
        return await self.ledger.close_incarnation(incarnation)

    async def tokens(self) -> list[int]:
        return [stored.proof.token_count for stored in await self.ledger.waiting_proofs(100)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tally"


@pytest.fixture
async def sink(tmp_path: Path) -> AsyncIterator[Sink]:
    async with await LedgerThread.open(tmp_path / "ledger.sqlite", time.time) as ledger:
        yield Sink(ledger)


def book_of(sink: Sink, directory: Path) -> UsageBook:
    return UsageBook(sink, directory, retry_s=0.01, proofs_s=0.01)


async def collect_until(book: UsageBook, sink: Sink, expected: list[int]) -> None:
    """Collect as beside a running engine, until these proofs are there."""
    task = asyncio.create_task(book.collect_proofs())
    try:
        async with asyncio.timeout(10):
            while await sink.tokens() != expected:
                await asyncio.sleep(0.005)
    finally:
        task.cancel()


async def test_a_proof_says_what_the_handler_digested_of_the_model_that_registration_names(
    sink: Sink, directory: Path
) -> None:
    Handler(directory).serve().end()
    await book_of(sink, directory).end("a")
    (stored,) = await sink.ledger.waiting_proofs(10)
    proof = stored.proof
    assert proof.key == "a/handler-0-7/1"
    assert proof.model_hash == "0x" + model_hash(MODEL).hex()
    assert (proof.input_hash, proof.output_hash) == ("0x" + "01" * 32, "0x" + "65" * 32)
    assert proof.token_count == 1


async def test_an_incarnation_that_is_over_has_its_open_requests_proven_too(sink: Sink, directory: Path) -> None:
    handler = Handler(directory)
    handler.serve(handler.serve())
    handler.serve().end()
    await book_of(sink, directory).end("a")
    assert await sink.tokens() == [2, 3]
    assert list(directory.iterdir()) == []


async def test_a_step_that_was_not_counted_is_not_proven(sink: Sink, directory: Path) -> None:
    handler = Handler(directory)
    slot = handler.serve()
    handler.serve(slot, counted=False)
    await book_of(sink, directory).end("a")
    assert await sink.tokens() == [1]
    assert (await sink.ledger.totals()).tokens == 1


async def test_without_a_readable_tally_nothing_is_proven(sink: Sink, directory: Path) -> None:
    Handler(directory).serve().end()
    tally_path(directory, "a", 0, 7).write_bytes(b"?" * 240)
    await book_of(sink, directory).end("a")
    assert await sink.tokens() == []
    assert list(directory.iterdir()) == []


async def test_a_damaged_segment_holds_up_nothing_and_is_told(
    sink: Sink, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Handler(directory).serve().end()
    (segment,) = segments(directory)
    segment.path.write_bytes(b"?" * 100)
    await book_of(sink, directory).end("a")
    assert (await sink.ledger.totals()).tokens == 1
    assert "damaged" in caplog.text
    assert list(directory.iterdir()) == []


async def test_of_a_running_engine_requests_are_proven_when_they_have_ended_and_counted_before(
    sink: Sink, directory: Path
) -> None:
    book, handler = book_of(sink, directory), Handler(directory)
    book.begin("a")
    long = handler.serve()
    handler.serve().end()
    await collect_until(book, sink, [2])
    assert (await sink.ledger.totals()).tokens == 2
    handler.serve(long)
    long.end()
    await collect_until(book, sink, [2, 3])
    assert len(sink.offered) == 2


async def test_segments_of_a_running_engine_that_are_done_are_deleted_the_others_stay(
    sink: Sink, directory: Path
) -> None:
    book, handler = book_of(sink, directory), Handler(directory, slots=2)
    book.begin("a")
    for _ in range(3):
        handler.serve().end()
    await collect_until(book, sink, [1, 2, 3])
    async with asyncio.timeout(10):
        while len(list(segments(directory))) != 1:
            await asyncio.sleep(0.005)
    handler.serve().end()
    await book.end("a")
    assert await sink.tokens() == [1, 2, 3, 4]


async def test_a_ledger_that_refuses_is_asked_again_and_nothing_is_lost(sink: Sink, directory: Path) -> None:
    book, handler = book_of(sink, directory), Handler(directory)
    book.begin("a")
    handler.serve().end()
    sink.refuse = True
    await book.end("a")
    assert await sink.tokens() == []
    assert len(list(segments(directory))) == 1
    sink.refuse = False
    await book.end("a")
    assert await sink.tokens() == [1]


async def test_a_crash_between_keeping_and_deleting_proves_nothing_twice(sink: Sink, directory: Path) -> None:
    handler = Handler(directory)
    slot = handler.serve()
    slot.end()
    (segment,) = segments(directory)
    left = {path: path.read_bytes() for path in (segment.path, tally_path(directory, "a", 0, 7))}
    await book_of(sink, directory).end("a")
    segment.path.parent.mkdir()
    for path, content in left.items():
        path.write_bytes(content)
    await book_of(sink, directory).end_others()
    assert await sink.tokens() == [1]
    assert len(sink.offered) == 2
    assert list(directory.iterdir()) == []


async def test_segments_without_a_tally_are_cleared_away(sink: Sink, directory: Path) -> None:
    Handler(directory).serve().end()
    tally_path(directory, "a", 0, 7).unlink()
    await book_of(sink, directory).end_others()
    assert await sink.tokens() == []
    assert list(segments(directory)) == []
