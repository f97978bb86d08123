"""A node without its processes: real ledger, usage book and reporter; an engine that writes real tallies and proofs."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from plumised.engine.usage import UsageBook
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.proofs import ProofWriter
from plumised.ipc.tally import TallyWriter, handler_key, tally_path
from plumised.ledger import Figures, LedgerThread
from plumised.oracle import Dialect, Policy, Reporter
from tests.integration.histories.oracle import Oracle, SealingSigner, Wire
from tests.integration.histories.virtual_time import Life, VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from plumised.ipc.proofs import RequestSlot

EPOCH = 1_770_000_000.0
HANDLERS = 2
ANSWER_TIMEOUT_S = 15.0
COLLECT_EVERY_S = 5.0
FINAL_REPORT_S = 60.0
SETTLED_WITHIN_S = 7200.0
"""Longer than a clock is set ahead here: a timestamp that was signed meanwhile bars all before it."""
POLICY = Policy(interval_s=20.0, greatest_tokens=2000, proofs_per_report=3)


@dataclass(frozen=True)
class Served:
    """A request as far as it was counted: what its proof has to say."""

    digest: str
    tokens: int


class Request:
    """One inference session of a handler."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokens = 0
        self.steps = 0
        self.slot: RequestSlot | None = None

    def digest(self) -> bytes:
        """Of what passed up to the last step."""
        return hashlib.sha256(f"{self.name}, {self.steps} steps".encode()).digest()


class Handler:
    """One handler process of the engine."""

    def __init__(self, directory: Path, incarnation: str, index: int) -> None:
        self.key = handler_key(index, 100 + index)
        self._name = f"{incarnation}/{self.key}"
        self._tally = TallyWriter(tally_path(directory, incarnation, index, 100 + index))
        self._proofs = ProofWriter(directory, incarnation, index, 100 + index, b"m" * 32, slots=4)
        self._counters = Counters()
        self._requests = 0
        self.request: Request | None = None

    @property
    def usage(self) -> Usage:
        return Usage(self._counters, Counters(), Counters())

    def step(self, tokens: int, *, killed: bool = False) -> int:
        """Serve a step; `killed`: before it is counted. Returns the tokens that are counted."""
        if self.request is None:
            self._requests += 1
            self.request = Request(f"{self._name}/{self._requests}")
        request, was = self.request, self._counters
        first = request.steps == 0
        request.steps += 1
        request.tokens += tokens
        counters = Counters(was.requests + first, was.steps + 1, was.tokens + tokens, was.service_us + 1000 * tokens)
        if request.slot is None:
            request.slot = self._proofs.open()
        request.slot.write(counters.steps, request.tokens, request.digest(), request.digest())
        if killed:
            request.steps -= 1
            request.tokens -= tokens
            return 0
        self._tally.write(Usage(counters, Counters(), Counters()))
        self._counters = counters
        return tokens

    def end(self) -> Served | None:
        """The client closes the session."""
        request, self.request = self.request, None
        if request is None or request.slot is None:
            return None
        request.slot.end()
        return Served("0x" + request.digest().hex(), request.tokens) if request.steps else None

    def lose(self) -> Served | None:
        """The handler is killed; what was counted of its request must be proven."""
        request = self.request
        self._tally.close()
        if request is None or request.steps == 0:
            return None
        return Served("0x" + request.digest().hex(), request.tokens)


class Engine:
    """One incarnation."""

    def __init__(self, directory: Path, incarnation: str) -> None:
        self.incarnation = incarnation
        self.handlers = [Handler(directory, incarnation, index) for index in range(HANDLERS)]


class Node:
    """Everything, with what it has served as seen from outside.

    Attributes:
        ahead_s: how far the node's clock is ahead of the Oracle's.
        tokens, requests: served, and counted before the reply left.
        served: every request that was ended or killed.
    """

    def __init__(self, loop: VirtualTimeLoop, directory: Path, dialect: Dialect, seed: int) -> None:
        self.loop = loop
        self.dialect = dialect
        self._chance = Random(seed)
        self._directory = directory
        self._tallies = directory / "tallies"
        self._lives = 0
        self._incarnations = 0
        self.ahead_s = 0.0
        self.tokens = 0
        self.requests = 0
        self.served: list[Served] = []
        self.signer = SealingSigner()
        self.oracle = Oracle(directory / "oracle.sqlite", self._oracle_clock)
        self.engine: Engine | None = None
        self.ledger: LedgerThread
        self.book: UsageBook
        self.reporter: Reporter
        self._open = False
        self._tasks: asyncio.Task[None]
        (directory / "life-0").mkdir()

    def _oracle_clock(self) -> float:
        return EPOCH + self.loop.time()

    def _clock(self) -> float:
        return self._oracle_clock() + self.ahead_s

    async def start(self) -> None:
        """A life of the daemon begins."""
        self.loop.life = Life()
        self.ledger = await LedgerThread.open(self._directory / f"life-{self._lives}" / "ledger.sqlite", self._clock)
        self._open = True
        self.book = UsageBook(self.ledger, self._tallies, 1.0, COLLECT_EVERY_S)
        self.reporter = Reporter(
            client=Wire(self.oracle, ANSWER_TIMEOUT_S),
            dialect=self.dialect,
            signer=self.signer,
            ledger=self.ledger,
            policy=POLICY,
            clock=self._clock,
            monotonic=self.loop.time,
            random=self._chance.random,
            on_unregistered=lambda: None,
        )
        self._tasks = asyncio.create_task(self._work())

    async def _work(self) -> None:
        await self.book.end_others()
        self._begin_engine()
        async with asyncio.TaskGroup() as tasks:
            for part in (self.book.run(), self.book.collect_proofs(), self.reporter.run()):
                tasks.create_task(part)

    def _begin_engine(self) -> None:
        self._incarnations += 1
        self.engine = Engine(self._tallies, f"life-{self._incarnations}")
        self.book.begin(self.engine.incarnation)

    def end_within(self, effects: int, *, last_counts: bool) -> None:
        """Kill the daemon, and with it the engine, after so many more effects."""
        self.loop.life.end_after(effects, self._died, last_counts=last_counts)

    @property
    def dead(self) -> bool:
        return self.loop.life.over

    def kill(self) -> None:
        """Kill the daemon, and with it the engine, here."""
        if not self.dead:
            self.loop.life.over = True
            self._died()

    def _died(self) -> None:
        self.lose_engine()
        # A killed process leaves the files as they are; closing them would still write.
        old, self._lives = self._directory / f"life-{self._lives}", self._lives + 1
        new = self._directory / f"life-{self._lives}"
        new.mkdir()
        for name in ("ledger.sqlite", "ledger.sqlite-wal"):
            if (old / name).exists():
                shutil.copyfile(old / name, new / name)

    async def revive(self) -> None:
        """Start the next life of a killed daemon."""
        assert self.dead
        self._tasks.cancel()
        await asyncio.wait({self._tasks})
        self._close_ledger()
        await self.start()

    def lose_engine(self) -> str | None:
        """Kill the engine; returns which incarnation it was."""
        engine, self.engine = self.engine, None
        if engine is None:
            return None
        self.served += [served for handler in engine.handlers if (served := handler.lose())]
        return engine.incarnation

    async def replace_engine(self, incarnation: str) -> None:
        """The daemon has noticed the engine's end."""
        await self.book.end(incarnation)
        self._begin_engine()

    def serve(self, handler: int, steps: Sequence[int], *, ends: bool) -> None:
        """Serve steps of so many tokens each, if the engine is there; `ends`: and the client closes the session."""
        if self.engine is None:
            return
        one = self.engine.handlers[handler]
        before = one.usage.inference.requests
        self.tokens += sum(one.step(tokens) for tokens in steps)
        self.requests += one.usage.inference.requests - before
        if ends and (served := one.end()):
            self.served.append(served)

    async def settled(self) -> None:
        """Wait until nothing is unreported, for as long as SETTLED_WITHIN_S."""
        deadline = self.loop.time() + SETTLED_WITHIN_S
        while self.loop.time() < deadline:
            await asyncio.sleep(POLICY.interval_s)
            books = await self.ledger.report_books()
            covered = books.accepted.covered if books.accepted else Figures()
            waiting = await self.ledger.count_waiting_proofs() if self.dialect.carries_proofs else 0
            if books.in_flight is None and covered == Figures.of(books.totals) and not waiting:
                return
        raise AssertionError(f"not credited: {await self.ledger.report_books()}, {self.reporter.snapshot()}")

    async def stop(self) -> bool:
        """Stop in order, as the daemon does: the engine, its counters, the final report."""
        incarnation = self.lose_engine()
        if incarnation is not None:
            await self.book.end(incarnation)
        reported = await self.reporter.final_report(FINAL_REPORT_S)
        self._tasks.cancel()
        await asyncio.wait({self._tasks})
        if not self.dead:
            self._close_ledger()
            self.loop.life.over = True
        return reported

    def _close_ledger(self) -> None:
        if self._open:
            self._open = False
            self.ledger._ledger.close()
