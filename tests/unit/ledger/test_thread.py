"""The face for asyncio: order, shared commits, bounds, and errors as values of the call that met them."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plumised.ipc.messages import Counters, Usage
from plumised.ledger import (
    ImplausibleUsageError,
    LedgerBusyError,
    LedgerDamagedError,
    LedgerInUseError,
    LedgerThread,
    LedgerUnavailableError,
)
from tests.unit.ledger.histories import damage_beneath, inference, report


async def opened(directory: Path, answer_timeout_s: float = 30.0) -> LedgerThread:
    return await LedgerThread.open(directory / "ledger.sqlite", time.time, answer_timeout_s)


async def test_many_handlers_at_once_are_all_committed_when_their_calls_return(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger:
        news = [(f"handler-{number % 8}", inference(number)) for number in range(200)]
        seen = await asyncio.gather(*(ledger.record_usage("life", handler, usage) for handler, usage in news))
        assert (await ledger.totals()).tokens == sum(range(192, 200))
        assert max(totals.tokens for totals in seen) == sum(range(192, 200))
    async with await opened(tmp_path) as ledger:
        assert (await ledger.totals()).tokens == sum(range(192, 200))


async def test_a_call_returns_only_after_its_own_news_is_committed(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger:

        async def record(number: int) -> None:
            totals = await ledger.record_usage("life", f"handler-{number}", inference(1))
            committed = await ledger.totals()
            assert committed.tokens >= totals.tokens >= 1

        await asyncio.gather(*(record(number) for number in range(100)))
        assert (await ledger.totals()).tokens == 100


async def test_news_that_waits_is_counted_before_its_incarnation_is_closed(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger, asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(ledger.record_usage("life", f"handler-{number}", inference(5)))
        await asyncio.sleep(0)
        assert (await ledger.close_incarnation("life")).tokens == 50


async def test_an_absurd_counter_fails_its_own_call_only(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger:
        absurd = Usage(Counters(tokens=-1), Counters(), Counters())
        results = await asyncio.gather(
            ledger.record_usage("life", "handler-0", inference(5)),
            ledger.record_usage("life", "handler-1", absurd),
            return_exceptions=True,
        )
        assert isinstance(results[1], ImplausibleUsageError)
        assert (await ledger.totals()).tokens == 5


@contextlib.asynccontextmanager
async def held_up(ledger: LedgerThread) -> AsyncIterator[None]:
    """The writer does nothing until the block is left."""
    released = threading.Event()
    blocked = asyncio.get_running_loop().run_in_executor(ledger._executor, released.wait)
    try:
        yield
    finally:
        released.set()
        await blocked


async def test_a_disk_that_stands_still_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    async with await opened(tmp_path, answer_timeout_s=0.05) as ledger:
        async with held_up(ledger):
            with pytest.raises(LedgerBusyError, match="did not answer"):
                await ledger.record_usage("life", "handler-0", inference(5))
            assert ledger.health().unwritten == 1
        assert (await ledger.record_usage("life", "handler-1", inference(2))).tokens == 7
        assert ledger.health().unwritten == 0


async def test_what_is_on_its_way_to_the_disk_is_no_trouble(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger, asyncio.TaskGroup() as group, held_up(ledger):
        for number in range(2):
            group.create_task(ledger.record_usage("life", f"handler-{number}", inference(5)))
            await asyncio.sleep(0)
        assert ledger.health().unwritten == 0


async def test_a_caller_that_gives_up_hides_no_refusal(tmp_path: Path) -> None:
    async with await opened(tmp_path, answer_timeout_s=0.05) as ledger, held_up(ledger):
        with pytest.raises(LedgerBusyError):
            await ledger.record_usage("life", "handler-0", inference(5))
        impatient = asyncio.create_task(ledger.record_usage("life", "handler-0", inference(6)))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert ledger.health().unwritten == 1


async def test_damage_is_told_to_the_caller_and_to_whom_waits_for_it_and_the_next_opening_goes_on(
    tmp_path: Path,
) -> None:
    async with await opened(tmp_path) as ledger:
        waiting = asyncio.create_task(ledger.damaged())
        await ledger.record_usage("life", "handler-0", inference(5))
        assert not waiting.done()
        damage_beneath(tmp_path / "ledger.sqlite")
        with pytest.raises(LedgerDamagedError):
            await ledger.totals()
        assert (await asyncio.wait_for(waiting, 10)).code == "ledger-damaged"
    async with await opened(tmp_path) as ledger:
        assert ledger.health().set_aside is not None
        assert (await ledger.record_usage("life", "handler-0", inference(5))).tokens == 5


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger:
        released = threading.Event()
        blocked = asyncio.get_running_loop().run_in_executor(ledger._executor, released.wait)
        calls = [asyncio.ensure_future(ledger.totals()) for _ in range(300)]
        done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {type(call.exception()) for call in done} == {LedgerBusyError}
        assert len(waiting) == 256
        released.set()
        await blocked
        await asyncio.wait(waiting)


async def test_a_cancelled_call_is_carried_out(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger:
        released = threading.Event()
        blocked = asyncio.get_running_loop().run_in_executor(ledger._executor, released.wait)
        call = asyncio.ensure_future(ledger.start_report(report(5)))
        await asyncio.sleep(0)
        call.cancel()
        released.set()
        await blocked
        assert (await ledger.report_books()).in_flight == report(5)


async def test_a_refused_opening_raises_what_was_wrong(tmp_path: Path) -> None:
    async with await opened(tmp_path):
        with pytest.raises(LedgerInUseError):
            await opened(tmp_path)


async def test_after_closing_every_call_says_so(tmp_path: Path) -> None:
    ledger = await opened(tmp_path)
    await ledger.close()
    await ledger.close()
    assert ledger.health().closed
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await ledger.totals()


async def test_every_call_reaches_the_ledger(tmp_path: Path) -> None:
    async with await opened(tmp_path) as ledger:
        assert await ledger.next_timestamp(7) == 7
        await ledger.skip_timestamps(9)
        assert await ledger.next_timestamp(7) == 10
        await ledger.start_report(report(10))
        assert (await ledger.accept_report(10, 1.0)).count == 1
        await ledger.start_report(report(11))
        await ledger.drop_report(11)
        await ledger.add_proofs([])
        await ledger.refuse_proofs([])
        assert await ledger.waiting_proofs(5) == ()
        assert await ledger.count_waiting_proofs() == 0
        await ledger.set_fact("oracle.dialect", {"url": "u"})
        assert await ledger.fact("oracle.dialect") == {"url": "u"}
        assert await ledger.unfinished_transactions(1, "0x") == ()
        assert await ledger.recent_transactions(3) == ()
