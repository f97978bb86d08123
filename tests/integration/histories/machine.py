"""The machine that makes up histories of one node, its engine and its Oracle, and tells how each must end.

Each history runs the real ledger, usage book and reporter against the devnet's Oracle, in a time that is made up. The
daemon can be killed before and after each of its effects: a commit, a file, a signature, a request, its reply.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.devnet.oracle import Fault
from tests.integration.histories.node import HANDLERS, Node
from tests.integration.histories.oracle import AGENT, sealed
from tests.integration.histories.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from plumised.oracle import Dialect

LONGEST_DELAY_S = 90.0
LONGEST_BOOKING_S = 29.0
STEPS = 16
MEMORY = Path("/dev/shm")  # noqa: S108 - a place without a disk; the names below it are made by tempfile

handlers = st.integers(0, HANDLERS - 1)
steps = st.lists(st.integers(1, 900), max_size=3)
"""Tokens of each step of a request."""
faults = st.one_of(
    st.builds(
        Fault,
        kind=st.sampled_from(["drop", "status", "garbage", "truncate", "repeat", "hang"]),
        when=st.sampled_from(["before", "after"]),
        on=st.sampled_from(["report", "report", "history", "any"]),
        count=st.integers(1, 4),
    ),
    st.builds(
        Fault,
        kind=st.just("delay"),
        when=st.sampled_from(["before", "after"]),
        on=st.sampled_from(["report", "any"]),
        # Around the reporter's time-out, its first repetition, and the age from which the Oracle refuses a timestamp.
        seconds=st.sampled_from([1.0, 14.0, 16.0, 29.0, 31.0, 45.0, 54.0, 57.0, 59.0, 60.0, 61.0, 90.0]),
        count=st.integers(1, 4),
    ),
    # Reports that the Oracle books at once lose counts there. A node gives it 30 s from the check to the booking.
    st.builds(
        Fault,
        kind=st.just("delay"),
        when=st.just("booking"),
        seconds=st.sampled_from([12.0, 20.0, LONGEST_BOOKING_S]),
        count=st.integers(1, 2),
    ),
    st.builds(
        Fault,
        kind=st.just("refuse"),
        status=st.sampled_from([400, 401, 413, 429]),
        message=st.sampled_from(["Internal server error", "Agent not registered on-chain", "Invalid signature"]),
        count=st.integers(1, 3),
    ),
    st.builds(Fault, kind=st.sampled_from(["rpc-down", "database-down"]), count=st.integers(1, 4)),
)


class History(RuleBasedStateMachine):
    """One node, its engine and its Oracle, and everything that can happen to them.

    Attributes:
        dialect: of the reports.
    """

    dialect: Dialect

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.directory = Path(tempfile.mkdtemp(prefix="plm-", dir=MEMORY if MEMORY.is_dir() else None))
        self.node: Node | None = None

    def happens(self, what: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(what)

    @property
    def here(self) -> Node:
        assert self.node is not None
        return self.node

    @initialize(chance=st.integers(0, 1000))
    def begin(self, chance: int) -> None:
        self.node = Node(self.loop, self.directory, self.dialect, chance)
        self.happens(self.here.start())
        self.happens(asyncio.sleep(1))

    def serves(self) -> bool:
        return self.node is not None and self.node.engine is not None

    def lives(self) -> bool:
        return self.node is not None and not self.node.dead

    @precondition(serves)
    @rule(handler=handlers, steps=steps, ends=st.booleans())
    def the_engine_serves(self, handler: int, steps: list[int], ends: bool) -> None:
        self.here.serve(handler, steps, ends=ends)

    @precondition(serves)
    @rule(handler=handlers, times=st.integers(1, 2))
    def its_counters_arrive(self, handler: int, times: int) -> None:
        engine = self.here.engine
        assert engine is not None
        for _ in range(times):
            self.here.book.take(engine.incarnation, engine.handlers[handler].key, engine.handlers[handler].usage)

    @precondition(serves)
    @rule(handler=handlers, in_mid_step=st.booleans(), noticed_after_s=st.integers(0, 15))
    def the_engine_is_killed(self, handler: int, in_mid_step: bool, noticed_after_s: int) -> None:
        assert self.here.engine is not None
        if in_mid_step:
            self.here.engine.handlers[handler].step(17, killed=True)
        incarnation = self.here.lose_engine()
        assert incarnation is not None
        self.happens(self._replace(incarnation, noticed_after_s))

    async def _replace(self, incarnation: str, after_s: int) -> None:
        await asyncio.sleep(after_s)
        if not self.here.dead:
            noticing = asyncio.ensure_future(self.here.replace_engine(incarnation))
            # The daemon may be killed over it, and then says nothing any more.
            while not noticing.done() and not self.here.dead:
                await asyncio.sleep(0.1)
            noticing.cancel()
            await asyncio.wait({noticing})
            if not self.here.dead:
                noticing.result()

    @rule(seconds=st.integers(0, 90), handler=handlers, steps=steps)
    def time_passes_after_a_request(self, seconds: int, handler: int, steps: list[int]) -> None:
        self.here.serve(handler, steps, ends=True)
        self.happens(asyncio.sleep(seconds))

    @precondition(lives)
    @rule(effects=st.integers(0, 60), last_counts=st.booleans(), handler=handlers, steps=steps, restarted=st.booleans())
    def the_daemon_is_killed_over_its_work(
        self, effects: int, last_counts: bool, handler: int, steps: list[int], restarted: bool
    ) -> None:
        self.here.end_within(effects, last_counts=last_counts)
        self.here.serve(handler, steps, ends=True)
        self.happens(asyncio.sleep(30))
        if restarted and self.here.dead:
            self.the_daemon_is_started()

    @precondition(lives)
    @rule(after_s=st.integers(0, 30), handler=handlers, steps=steps, ends=st.booleans())
    def the_daemon_is_killed(self, after_s: int, handler: int, steps: list[int], ends: bool) -> None:
        self.happens(asyncio.sleep(after_s))
        self.here.serve(handler, steps, ends=ends)
        self.here.kill()
        self.the_daemon_is_started()

    @precondition(lives)
    @rule()
    def the_daemon_is_stopped_in_order_and_started(self) -> None:
        self.happens(self._stop())
        self.the_daemon_is_started()

    async def _stop(self) -> None:
        stopping = asyncio.ensure_future(self.here.stop())
        # It may be killed over it, and then says nothing any more.
        while not stopping.done() and not self.here.dead:
            await asyncio.sleep(0.1)
        if not stopping.done():
            stopping.cancel()
            await asyncio.wait({stopping})

    def the_daemon_is_started(self) -> None:
        self.happens(self.here.revive())
        self.happens(asyncio.sleep(1))

    @precondition(lambda self: self.node is not None and self.node.dead)
    @rule()
    def the_daemon_is_started_later(self) -> None:
        self.the_daemon_is_started()

    @precondition(lambda self: self.node is not None and self.node.oracle.up)
    @rule()
    def the_oracle_is_killed(self) -> None:
        self.here.oracle.kill()

    @precondition(lambda self: self.node is not None and not self.node.oracle.up)
    @rule()
    def the_oracle_is_started(self) -> None:
        self.here.oracle.start()

    @precondition(lambda self: self.node is not None and self.node.oracle.up)
    @rule(several=st.lists(faults, min_size=1, max_size=2), handler=handlers, steps=steps, after_s=st.integers(0, 30))
    def something_goes_wrong(self, several: list[Fault], handler: int, steps: list[int], after_s: int) -> None:
        self.here.serve(handler, steps, ends=True)
        for fault in several:
            forged = not self.here.dialect.has_history and fault.kind in {"garbage", "truncate"}
            # Any success status is the Oracle's word in this dialect, so nobody may forge one.
            self.here.oracle.faults.add(fault.model_copy(update={"when": "after"}) if forged else fault)
        self.happens(asyncio.sleep(after_s))

    @rule(seconds=st.sampled_from([-4000, -100, -30, -1, 0, 1, 30, 100, 4000]))
    def the_clock_is_set(self, seconds: int) -> None:
        self.here.ahead_s = float(seconds)

    @invariant()
    def nothing_is_booked_that_was_not_served(self) -> None:
        if self.node is None or not self.node.oracle.up:
            return
        account = self.node.oracle.store.account(AGENT.lower())
        assert account.booked_tokens <= self.node.tokens
        assert account.booked_requests <= self.node.requests

    def teardown(self) -> None:
        try:
            if self.node is not None:
                self.happens(self.all_is_well_again())
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def all_is_well_again(self) -> None:
        node = self.here
        if not node.oracle.up:
            node.oracle.start()
        node.oracle.faults._active.clear()
        # Letting all go that is delayed would have the Oracle handle copies of a report at once, which it cannot.
        await asyncio.sleep(2 * LONGEST_DELAY_S + LONGEST_BOOKING_S)
        node.oracle.faults.clear()
        node.ahead_s = 0.0
        if not node.dead:
            node.kill()
        await node.revive()
        await asyncio.sleep(1)
        await node.settled()
        assert await node.stop()
        self.check_the_books(node)
        node.oracle.kill()

    def check_the_books(self, node: Node) -> None:
        held = node.oracle.store.agent(AGENT.lower())
        assert (held.booked_tokens, held.booked_requests) == (node.tokens, node.requests)
        accepted = [report.timestamp for report in reversed(node.oracle.store.reports(AGENT.lower()))]
        assert accepted == sorted(set(accepted))
        signed = [timestamp(text) for text in node.signer.signed]
        assert signed == sorted(set(signed))
        if node.dialect.carries_proofs:
            proofs = Counter((proof.input_hash, proof.token_count) for proof in node.oracle.store.proofs())
            assert proofs == Counter((served.digest, served.tokens) for served in node.served)


def timestamp(text: str) -> int:
    signed: dict[str, int] = json.loads(text)
    return signed["timestamp"]


def run_histories(dialect: Dialect, block: int, histories: int) -> None:
    """Run so many histories of one dialect; a block always brings the same ones.

    Raises:
        AssertionError: of the shortest that was found not to end well.
    """
    machine = seed(block)(type("Block", (History,), {"dialect": dialect}))
    with sealed():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=histories,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
