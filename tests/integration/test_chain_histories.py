"""The transaction queue through any history: mined or not, dropped, replaced, reorganised, fees leaping, replies lost,
other programs with the same key, and the process ended in between.

Whatever happened: one transaction in flight, no fee above the cap, nothing mined that the ledger did not know first, no
gap, and when the chain is well again, the next order is mined.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from plumised.chain.fees import DynamicFee
from plumised.chain.orders import AlreadyPendingError, Confirmed, Order, Outcome, QueueFullError
from plumised.chain.rpc_errors import RpcError
from plumised.chain.wallet import TransactionFields
from tests.devnet.chain import CHAIN_ID, BelowBaseFee, DevChain, FaultMode, MiningMode
from tests.integration.chain_world import AGENT, BEAT, CAP, FAST, PLM, REGISTER, WALLET, World, eventually, world

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from plumised.ledger.records import StoredTransaction

T = TypeVar("T")

BASE_FEE = 5_000_001
PATIENCE_S = 60.0
STEP_S = 0.15
"""How long the queue is left to itself after each step; nothing is concluded from it."""

faults = st.sampled_from(
    [FaultMode.LOSE_REPLY, FaultMode.DROP, FaultMode.STATUS_500, FaultMode.GARBAGE, FaultMode.ERROR]
)


class History(RuleBasedStateMachine):
    """One chain, one ledger, and lives of the queue one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="plm-"))
        self.chain = DevChain(funds={AGENT: PLM}, base_fee=BASE_FEE)
        self.known: set[str] = set()
        self.foreign: set[str] = set()
        self.reorganised = False
        self.orders: set[asyncio.Task[Outcome]] = set()
        self.node: World
        self.life = AsyncExitStack()
        self.run(self.chain.__aenter__())
        self.run(self.begin())

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.runner.run(work)

    async def begin(self) -> None:
        self.node = await self.life.enter_async_context(world(self.directory, self.chain.url, policy=FAST))
        ledger = self.node.ledger
        save = ledger.save_transaction

        async def remember(transaction: StoredTransaction) -> None:
            self.known |= {attempt.hash for attempt in transaction.attempts}
            assert max(attempt.max_fee_per_gas for attempt in transaction.attempts) <= CAP
            assert len(transaction.attempts) <= FAST.most_attempts
            await save(transaction)

        ledger.save_transaction = remember  # type: ignore[method-assign] # a witness of what is stored

    async def end(self) -> None:
        await self.life.aclose()
        for order in self.orders:
            order.cancel()
        await asyncio.gather(*self.orders, return_exceptions=True)
        self.orders.clear()

    async def settle(self) -> None:
        """Let the queue work for a moment, and see that no order ends by anything but its rules."""
        await asyncio.sleep(STEP_S)
        for order in {order for order in self.orders if order.done()}:
            self.orders.discard(order)
            if not isinstance(order.exception(), AlreadyPendingError | QueueFullError | None):
                await order

    @rule(order=st.sampled_from([REGISTER, BEAT]))
    def order(self, order: Order) -> None:
        async def submit() -> None:
            self.orders.add(asyncio.ensure_future(self.node.queue.submit(order)))
            await self.settle()

        self.run(submit())

    @rule(blocks=st.integers(1, 3))
    def mine(self, blocks: int) -> None:
        self.run(self.chain.admin.mine(blocks))
        self.run(self.settle())

    @rule(mode=st.sampled_from([MiningMode.INSTANT, MiningMode.MANUAL]))
    def change_mining(self, mode: MiningMode) -> None:
        self.run(self.chain.admin.set_mining(mode))
        self.run(self.settle())

    @rule(
        base_fee=st.sampled_from([0, BASE_FEE, 10 * BASE_FEE, CAP // 2, 2 * CAP]), below=st.sampled_from(BelowBaseFee)
    )
    def change_fees(self, base_fee: int, below: BelowBaseFee) -> None:
        self.run(self.chain.admin.set_fees(base_fee=base_fee, below_base_fee=below))
        self.run(self.settle())

    @rule()
    def drop(self) -> None:
        async def drop() -> None:
            for waiting in await self.chain.admin.pool():
                await self.chain.admin.drop(waiting.hash)
            await self.settle()

        self.run(drop())

    @rule(depth=st.integers(1, 3), forget=st.booleans())
    def reorganise(self, depth: int, *, forget: bool) -> None:
        async def reorganise() -> None:
            height = (await self.chain.admin.status()).height
            if height > depth:
                self.reorganised = True
                await self.chain.admin.reorganise(depth, forget=forget)
            await self.settle()

        self.run(reorganise())

    @rule(replacing=st.booleans())
    def another_program_sends(self, *, replacing: bool) -> None:
        async def send() -> None:
            status = await self.chain.admin.status()
            mined = len(await self.chain.admin.transactions(AGENT))
            nonce = mined if replacing else mined + status.executable + status.waiting
            fields = TransactionFields(CHAIN_ID, nonce, AGENT, b"", 21_000, DynamicFee(4 * CAP, 2 * CAP))
            signed = WALLET.sign_transaction(fields)
            self.foreign.add(signed.hash)
            with suppress(RpcError):
                await self.node.chain.send(signed.raw)
            await self.settle()

        self.run(send())

    @rule(mode=faults, count=st.integers(1, 3), sending=st.booleans())
    def fail(self, mode: FaultMode, count: int, *, sending: bool) -> None:
        methods = ("eth_sendRawTransaction",) if sending else ()
        self.run(self.chain.admin.fault(mode, *methods, count=count, message="already known"))
        self.run(self.settle())

    @rule()
    def restart(self) -> None:
        self.run(self.end())
        self.run(self.begin())

    @invariant()
    def one_transaction_is_in_flight(self) -> None:
        assert len(self.run(self.node.ledger.unfinished_transactions(CHAIN_ID, AGENT))) <= 1

    @invariant()
    def nothing_is_on_the_chain_that_the_ledger_did_not_know(self) -> None:
        mined = self.run(self.chain.admin.transactions(AGENT))
        assert {each.hash for each in mined} <= self.known | self.foreign
        assert [each.nonce for each in mined] == list(range(len(mined)))
        if not self.reorganised:
            assert all(each.succeeded for each in mined)

    def teardown(self) -> None:
        try:
            self.run(self.recover())
            self.nothing_is_on_the_chain_that_the_ledger_did_not_know()
        finally:
            self.run(self.end())
            self.run(self.chain.__aexit__(None, None, None))
            self.runner.close()
            shutil.rmtree(self.directory, ignore_errors=True)

    async def recover(self) -> None:
        """With the chain well again, what is in flight comes to its end, and the next order is mined."""
        await self.chain.admin.clear_faults()
        await self.chain.admin.set_fees(base_fee=BASE_FEE)
        await self.chain.admin.set_mining(MiningMode.INSTANT)
        await self.chain.admin.mine()
        await eventually(
            self.node.queue.status,
            lambda status: status.in_flight is None and not status.waiting and not self.unfinished(),
            PATIENCE_S,
        )
        await eventually(self.node.rpc.status, lambda status: status.endpoints[0].retry_in_s == 0)
        registered = await self.chain.admin.agent(AGENT) is not None
        outcome = await self.node.queue.submit(BEAT if registered else REGISTER)
        assert isinstance(outcome, Confirmed), outcome
        assert not await self.chain.admin.pool()

    def unfinished(self) -> bool:
        return any(not order.done() for order in self.orders)


TestHistories = History.TestCase
TestHistories.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
