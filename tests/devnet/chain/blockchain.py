"""The chain itself: canonical blocks, what waits for the next one, mining, reorganisation and simulated calls.

Everything runs in one thread; the server that owns a Blockchain calls it from its event loop only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from eth.abc import ReceiptAPI, SignedTransactionAPI, StateAPI
from eth_typing import Address

from tests.devnet.chain import evm
from tests.devnet.chain import raw as raw_transactions
from tests.devnet.chain.blocks import Mined, Sealed, outcome_of, size_of
from tests.devnet.chain.mempool import Account, BelowBaseFee, Mempool, RejectedError, Rules, Waiting
from tests.devnet.chain.simulation import Call, Outcome, estimate, simulate

CHAIN_ID: Final = 41956

Edit = Callable[[StateAPI], None]


@dataclass
class Conditions:
    """What of the network a test can turn: fees in wei per gas, the clock's offset in seconds."""

    base_fee: int = 0
    min_tip: int = 0
    below_base_fee: BelowBaseFee = BelowBaseFee.KEEP
    clock_offset_s: int = 0


@dataclass
class Blockchain:
    """A chain that grows when told to.

    Attributes:
        clock: seconds since 1970, for the blocks' timestamps.
        conditions: may be changed at any time; they hold for what comes after.
    """

    clock: Callable[[], float]
    funds: Mapping[bytes, int]
    epoch_blocks: int = 1200
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        self._chain = evm.genesis(
            chain_id=CHAIN_ID,
            timestamp=self._time(),
            base_fee=self.conditions.base_fee,
            epoch_blocks=self.epoch_blocks,
            funds=self.funds,
        )
        header = self._chain.get_canonical_head()
        self.blocks: list[Sealed] = [
            Sealed(header, self.conditions.base_fee, size_of(self._chain.get_block_by_header(header)), ())
        ]
        self.pool = Mempool()
        self._branch = 0
        self._places: dict[bytes, tuple[int, int]] = {}
        self._heights: dict[bytes, int] = {self.head.hash: 0}

    # Reading

    @property
    def head(self) -> Sealed:
        return self.blocks[-1]

    @property
    def rules(self) -> Rules:
        return Rules(
            chain_id=CHAIN_ID,
            gas_limit=evm.GAS_LIMIT,
            base_fee=self.conditions.base_fee,
            min_tip=self.conditions.min_tip,
            below_base_fee=self.conditions.below_base_fee,
        )

    def place(self, tx_hash: bytes) -> tuple[Sealed, Mined] | None:
        """Find a mined transaction with its block."""
        at = self._places.get(tx_hash)
        if at is None:
            return None
        block = self.blocks[at[0]]
        return block, block.mined[at[1]]

    def by_hash(self, block_hash: bytes) -> Sealed | None:
        """Find a canonical block."""
        height = self._heights.get(block_hash)
        return None if height is None else self.blocks[height]

    def state(self, height: int) -> StateAPI:
        """Return the state after block `height`; changes made to it are lost."""
        return self._chain.get_vm(self.blocks[height].header).state

    def account(self, address: bytes) -> Account:
        """Return an account as of the head."""
        return self._account_in(self.state(self.head.number), address)

    # Transactions

    def submit(self, raw: bytes) -> bytes:
        """Take a signed transaction into the pool and return its hash; raises RejectedError."""
        transaction, sender = raw_transactions.read(raw, CHAIN_ID)
        if self.place(bytes(transaction.hash)) is not None:
            # geth looks at the nonce first, for what is mined is not in its pool any more.
            raise RejectedError(f"nonce too low: next nonce {self.account(sender).nonce}, tx nonce {transaction.nonce}")
        self.pool.add(transaction, sender, self.account(sender), self.rules)
        self.pool.prune(self._reader(), self.rules)
        return bytes(transaction.hash)

    def executable(self) -> tuple[Waiting, ...]:
        """List what the next block would take."""
        return tuple(self.pool.executable(self._reader(), self.rules))

    def is_queued(self, waiting: Waiting) -> bool:
        """Tell whether a waiting transaction lacks one before it."""
        return self.pool.is_queued(waiting, self.account(waiting.sender).nonce)

    # Growing

    def mine(self, *, empty: bool = False, edit: Edit | None = None) -> Sealed:
        """Seal one block: first `edit` of the state, then what is executable unless `empty`."""
        waiting = () if empty else self.executable()
        block = self._seal(tuple((each.transaction, each.sender) for each in waiting), edit)
        self._append(block)
        self.pool.prune(self._reader(), self.rules)
        return block

    def reorganise(self, depth: int, blocks: int, *, forget: bool) -> None:
        """Replace the last `depth` blocks by `blocks` empty ones.

        Their transactions return to the pool, or are forgotten. Raises ValueError when the chain is not that long.
        Balances and rewards that were set in the replaced blocks are gone as well.
        """
        if not 0 < depth < len(self.blocks):
            raise ValueError(f"cannot replace {depth} of {len(self.blocks) - 1} blocks")
        gone = self.blocks[-depth:]
        del self.blocks[-depth:]
        self._branch += 1
        for block in gone:
            del self._heights[block.hash]
            for mined in block.mined:
                del self._places[mined.hash]
                if not forget:
                    self.pool.restore(mined.transaction, mined.sender)
        for _ in range(blocks):
            self._append(self._seal((), None))
        self.pool.prune(self._reader(), self.rules)

    # Simulation

    def call(self, call: Call, height: int) -> Outcome:
        """Run a call on the state after block `height`; raises RejectedError when it could not even start."""
        return simulate(call, self.state(height), self.blocks[height].base_fee)

    def estimate(self, call: Call, height: int) -> Outcome:
        """Return what `simulation.estimate` does, on the state after block `height`."""
        return estimate(call, lambda: self.state(height), self.blocks[height].base_fee)

    # Inside

    def _time(self) -> int:
        return int(self.clock()) + self.conditions.clock_offset_s

    @staticmethod
    def _account_in(state: StateAPI, address: bytes) -> Account:
        return Account(nonce=state.get_nonce(Address(address)), balance=state.get_balance(Address(address)))

    def _reader(self) -> Callable[[bytes], Account]:
        state = self.state(self.head.number)
        return lambda address: self._account_in(state, address)

    def _seal(self, transactions: tuple[tuple[SignedTransactionAPI, bytes], ...], edit: Edit | None) -> Sealed:
        parent = self.head.header
        fresh = self._chain.create_header_from_parent(
            parent,
            timestamp=max(parent.timestamp, self._time()),
            gas_limit=evm.GAS_LIMIT,
            coinbase=Address(evm.COINBASE),
            extra_data=f"plumise devnet/{self._branch}".encode(),
        )
        base_fee = self.conditions.base_fee
        header = fresh.copy(base_fee_per_gas=base_fee)
        machine = self._chain.get_vm(header)
        if edit is not None:
            edit(machine.state)
            machine.state.lock_changes()
        receipts: list[ReceiptAPI] = []
        mined: list[Mined] = []
        logs = 0
        for index, (transaction, sender) in enumerate(transactions):
            receipt, computation = machine.apply_transaction(header, transaction)
            before = int(header.gas_used)
            mined.append(outcome_of(transaction, sender, index, receipt, computation, base_fee, before, logs))
            logs += len(receipt.logs)
            header = machine.add_receipt_to_header(header, receipt)
            receipts.append(receipt)
        machine.state.persist()
        block = machine.set_block_transactions_and_withdrawals(
            machine.get_block(), header, tuple(transaction for transaction, _ in transactions), tuple(receipts)
        )
        sealed = block.copy(header=block.header.copy(state_root=machine.state.state_root))
        self._chain.chaindb.persist_header(sealed.header)
        return Sealed(sealed.header, base_fee, size_of(sealed), tuple(mined))

    def _append(self, block: Sealed) -> None:
        self.blocks.append(block)
        self._heights[block.hash] = block.number
        for mined in block.mined:
            self._places[mined.hash] = (block.number, mined.index)

    def transactions(self) -> Iterator[tuple[Sealed, Mined]]:
        """Yield every canonical transaction with its block, oldest first."""
        for block in self.blocks:
            for mined in block.mined:
                yield block, mined
