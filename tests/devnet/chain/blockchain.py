"""The chain itself: canonical blocks, what waits for the next one, mining, reorganisation and simulated calls.

Everything runs in one thread; the server that owns a Blockchain calls it from its event loop only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from eth._utils.address import generate_contract_address
from eth._utils.transactions import extract_chain_id, is_eip_155_signed_transaction
from eth.abc import BlockAPI, BlockHeaderAPI, ComputationAPI, ReceiptAPI, SignedTransactionAPI, StateAPI
from eth.constants import CREATE_CONTRACT_ADDRESS
from eth.exceptions import UnrecognizedTransactionType
from eth.rlp.transactions import BaseTransaction
from eth.vm.message import Message
from eth_keys.exceptions import BadSignature
from eth_typing import Address
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException

from tests.devnet.chain import evm
from tests.devnet.chain.mempool import Account, BelowBaseFee, Mempool, RejectedError, Rules, Waiting

CHAIN_ID: Final = 41956
CALL_GAS_CAP: Final = evm.GAS_LIMIT
INTRINSIC_GAS: Final = 21_000

Edit = Callable[[StateAPI], None]


@dataclass(frozen=True)
class Log:
    """An event; `index` counts within its block."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes
    index: int


@dataclass(frozen=True)
class Mined:
    """A transaction in a block, with its outcome. Fees in wei per gas."""

    transaction: SignedTransactionAPI
    sender: bytes
    index: int
    succeeded: bool
    error: str | None
    gas_used: int
    cumulative_gas: int
    gas_price: int
    bloom: int
    logs: tuple[Log, ...]
    created: bytes | None

    @property
    def hash(self) -> bytes:
        return bytes(self.transaction.hash)


@dataclass(frozen=True)
class Sealed:
    """A block with the outcome of its transactions."""

    header: BlockHeaderAPI
    base_fee: int
    size: int
    mined: tuple[Mined, ...]

    @property
    def hash(self) -> bytes:
        return bytes(self.header.hash)

    @property
    def number(self) -> int:
        return int(self.header.block_number)


@dataclass(frozen=True)
class Call:
    """A call that is simulated, not sent. `gas` None means as much as a block holds."""

    sender: bytes = bytes(20)
    to: bytes | None = None
    data: bytes = b""
    value: int = 0
    gas: int | None = None
    fee_cap: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a simulated call returned: output, or revert data with `reverted`, or `error`."""

    output: bytes
    gas_used: int
    reverted: bool
    error: str | None

    @property
    def succeeded(self) -> bool:
        return self.error is None


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
            Sealed(header, self.conditions.base_fee, _size(self._chain.get_block_by_header(header)), ())
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
        transaction, sender = self._decode(raw)
        if self.place(bytes(transaction.hash)) is not None:
            # geth looks at the nonce first, for what is mined is not in its pool any more.
            raise RejectedError(f"nonce too low: next nonce {self.account(sender).nonce}, tx nonce {transaction.nonce}")
        self.pool.add(transaction, sender, self.account(sender), self.rules)
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
        self.pool.prune(self._reader())
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
        self.pool.prune(self._reader())

    # Simulation

    def call(self, call: Call, height: int) -> Outcome:
        """Run a call on the state after block `height`; raises RejectedError when it could not even start."""
        state = self.state(height)
        base_fee = self.blocks[height].base_fee
        gas = min(call.gas if call.gas is not None else CALL_GAS_CAP, CALL_GAS_CAP)
        if call.fee_cap and call.fee_cap < base_fee:
            raise RejectedError(
                f"err: max fee per gas less than block base fee: address 0x{call.sender.hex()}, "
                f"maxFeePerGas: {call.fee_cap}, baseFee: {base_fee} (supplied gas {gas})"
            )
        balance = self._account_in(state, call.sender).balance
        if balance < gas * call.fee_cap + call.value:
            raise RejectedError(
                f"err: insufficient funds for gas * price + value: address 0x{call.sender.hex()} have {balance} "
                f"want {gas * call.fee_cap + call.value} (supplied gas {gas})"
            )
        intrinsic = _intrinsic_gas(call)
        if gas < intrinsic:
            raise RejectedError(f"err: intrinsic gas too low: have {gas}, want {intrinsic} (supplied gas {gas})")
        context = state.get_transaction_context_class()(gas_price=call.fee_cap, origin=Address(call.sender))
        if call.to is None:
            made = generate_contract_address(Address(call.sender), state.get_nonce(Address(call.sender)))
            creation = Message(
                gas=gas - intrinsic,
                to=CREATE_CONTRACT_ADDRESS,
                sender=Address(call.sender),
                value=call.value,
                data=b"",
                code=call.data,
                create_address=made,
            )
            return _outcome(evm.DevnetComputation.apply_create_message(state, creation, context), intrinsic)
        message = Message(
            gas=gas - intrinsic,
            to=Address(call.to),
            sender=Address(call.sender),
            value=call.value,
            data=call.data,
            code=state.get_code(Address(call.to)),
        )
        return _outcome(evm.DevnetComputation.apply_message(state, message, context), intrinsic)

    def estimate(self, call: Call, height: int) -> Outcome:
        """Return the outcome of `call` with the least gas at which it succeeds as `gas_used`.

        When it fails even with all the gas allowed, that failure is returned. Raises RejectedError as `call` does.
        """
        widest = self.call(call, height)
        if not widest.succeeded:
            return widest

        def succeeds(gas: int) -> bool:
            return self.call(Call(call.sender, call.to, call.data, call.value, gas), height).succeeded

        low, high = max(widest.gas_used, INTRINSIC_GAS), call.gas or CALL_GAS_CAP
        if succeeds(low):
            high = low
        while high - low > 1:
            middle = min((low + high) // 2, low * 2)
            low, high = (low, middle) if succeeds(middle) else (middle, high)
        return Outcome(widest.output, high, reverted=False, error=None)

    # Inside

    def _time(self) -> int:
        return int(self.clock()) + self.conditions.clock_offset_s

    @staticmethod
    def _account_in(state: StateAPI, address: bytes) -> Account:
        return Account(nonce=state.get_nonce(Address(address)), balance=state.get_balance(Address(address)))

    def _reader(self) -> Callable[[bytes], Account]:
        state = self.state(self.head.number)
        return lambda address: self._account_in(state, address)

    def _decode(self, raw: bytes) -> tuple[SignedTransactionAPI, bytes]:
        if not raw:
            raise RejectedError("typed transaction too short")
        builder = evm.DevnetVM.get_transaction_builder()
        try:
            transaction = builder.decode(raw)
        except (UnrecognizedTransactionType, ValidationError) as error:
            raise RejectedError("transaction type not supported") from error
        except (RLPException, ValueError, TypeError) as error:
            raise RejectedError(f"rlp: {error}") from error
        chain_id = _chain_id(transaction)
        if chain_id is None:
            raise RejectedError("only replay-protected (EIP-155) transactions allowed over RPC")
        if chain_id != CHAIN_ID:
            raise RejectedError(f"invalid sender: invalid chain id for signer: have {chain_id} want {CHAIN_ID}")
        try:
            transaction.validate()
            sender = bytes(transaction.sender)
        except (BadSignature, ValidationError) as error:
            if "gas" not in str(error):
                raise RejectedError("invalid sender: invalid transaction v, r, s values") from error
            sender = bytes(transaction.sender)
        return transaction, sender

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
            mined.append(_mined(transaction, sender, index, receipt, computation, base_fee, int(header.gas_used), logs))
            logs += len(receipt.logs)
            header = machine.add_receipt_to_header(header, receipt)
            receipts.append(receipt)
        machine.state.persist()
        block = machine.set_block_transactions_and_withdrawals(
            machine.get_block(), header, tuple(transaction for transaction, _ in transactions), tuple(receipts)
        )
        sealed = block.copy(header=block.header.copy(state_root=machine.state.state_root))
        self._chain.chaindb.persist_header(sealed.header)
        return Sealed(sealed.header, base_fee, _size(sealed), tuple(mined))

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


def _size(block: BlockAPI) -> int:
    # Of the header; bodies are small here and clients only show the number.
    return 500 + sum(len(transaction.encode()) for transaction in block.transactions)


def _chain_id(transaction: SignedTransactionAPI) -> int | None:
    if isinstance(transaction, BaseTransaction):
        return extract_chain_id(transaction.v) if is_eip_155_signed_transaction(transaction) else None
    return transaction.chain_id


def _intrinsic_gas(call: Call) -> int:
    zeros = call.data.count(0)
    creation = 32_000 if call.to is None else 0
    return INTRINSIC_GAS + 4 * zeros + 16 * (len(call.data) - zeros) + creation


def _outcome(computation: ComputationAPI, intrinsic: int) -> Outcome:
    used = intrinsic + computation.get_gas_used()
    if computation.is_success:
        return Outcome(bytes(computation.output), used, reverted=False, error=None)
    reverted = not computation.should_burn_gas
    return Outcome(bytes(computation.output), used, reverted=reverted, error=_error_text(computation))


def _error_text(computation: ComputationAPI) -> str:
    return "execution reverted" if not computation.should_burn_gas else str(computation.error)


def _mined(
    transaction: SignedTransactionAPI,
    sender: bytes,
    index: int,
    receipt: ReceiptAPI,
    computation: ComputationAPI,
    base_fee: int,
    gas_before: int,
    logs_before: int,
) -> Mined:
    creates = transaction.to == CREATE_CONTRACT_ADDRESS
    return Mined(
        transaction=transaction,
        sender=sender,
        index=index,
        succeeded=computation.is_success,
        error=None if computation.is_success else _error_text(computation),
        gas_used=int(receipt.gas_used) - gas_before,
        cumulative_gas=int(receipt.gas_used),
        gas_price=min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base_fee),
        bloom=int(receipt.bloom),
        logs=tuple(
            Log(bytes(log.address), tuple(topic.to_bytes(32, "big") for topic in log.topics), bytes(log.data), at)
            for at, log in enumerate(receipt.logs, start=logs_before)
        ),
        created=bytes(generate_contract_address(Address(sender), transaction.nonce)) if creates else None,
    )
