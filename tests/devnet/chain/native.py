"""What the devnet's precompiles and contracts have in common: Python code that runs inside of the EVM.

A native contract is reached through the EVM's table of precompiles, keeps its state in its account's storage and is
therefore simulated, reverted and reorganised like any other contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from eth.abc import ComputationAPI, StateAPI
from eth.exceptions import Revert, VMError, WriteProtection
from eth_abi.abi import encode
from eth_hash.auto import keccak
from eth_typing import Address

from tests.devnet.chain import words

ERROR_SELECTOR: Final = keccak(b"Error(string)")[:4]

NativeCode: TypeAlias = Callable[[ComputationAPI], None]


class RefusedError(VMError):
    """A precompile failed: as in geth, all the gas given to it is gone and nothing is returned."""


@dataclass(frozen=True)
class Storage:
    """The words that one account keeps in one state of the chain."""

    state: StateAPI
    account: bytes

    def read(self, slot: int) -> int:
        return int(self.state.get_storage(_address(self.account), slot))

    def write(self, slot: int, value: int) -> None:
        self.state.set_storage(_address(self.account), slot, value)


@dataclass(frozen=True)
class Frame:
    """One running call, as native code sees it."""

    computation: ComputationAPI
    account: bytes

    @property
    def caller(self) -> bytes:
        return bytes(self.computation.msg.sender)

    @property
    def calldata(self) -> bytes:
        return bytes(self.computation.msg.data)

    @property
    def state(self) -> StateAPI:
        return self.computation.state

    @property
    def block(self) -> int:
        return int(self.state.block_number)

    @property
    def timestamp(self) -> int:
        return int(self.state.timestamp)

    @property
    def storage(self) -> Storage:
        return Storage(self.state, self.account)

    def spend(self, gas: int) -> None:
        """Use up gas; the EVM ends the call when there is not enough."""
        self.computation.consume_gas(gas, reason="native contract")

    def about_to_write(self) -> None:
        """End a static call, which must not change anything."""
        if self.computation.msg.is_static:
            raise WriteProtection("state change inside of a static call")

    def log(self, event: bytes, indexed: tuple[bytes, ...], data: bytes) -> None:
        topics = tuple(int.from_bytes(topic, "big") for topic in (event, *indexed))
        self.computation.add_log_entry(_address(self.account), topics, data)

    def pay(self, recipient: bytes, wei: int) -> None:
        """Move `wei` from this account; raises RefusedError when the account has less."""
        if self.state.get_balance(_address(self.account)) < wei:
            raise RefusedError("contract has insufficient balance")
        self.state.delta_balance(_address(self.account), -wei)
        self.state.delta_balance(_address(recipient), wei)

    def revert(self, reason: str) -> Revert:
        """Return the exception that ends the call like Solidity's `require(…, reason)`."""
        data = ERROR_SELECTOR + encode(["string"], [reason])
        self.computation.output = data
        return Revert(data)


def precompile(account: bytes, body: Callable[[Frame], bytes]) -> NativeCode:
    """Make a precompile of `body`; calldata that it finds malformed is refused."""

    def run(computation: ComputationAPI) -> None:
        try:
            computation.output = body(Frame(computation, account))
        except words.MalformedWordError as error:
            raise RefusedError(str(error)) from error

    return run


def contract(
    account: bytes, functions: dict[bytes, Callable[[Frame], bytes]], *, takes_payments: bool = False
) -> NativeCode:
    """Make a contract of `functions`, by selector; whatever else is called reverts without data, as Solidity's do."""

    def run(computation: ComputationAPI) -> None:
        frame = Frame(computation, account)
        payment = computation.msg.value > 0
        if not frame.calldata and takes_payments:
            return
        function = functions.get(frame.calldata[:4])
        if function is None or payment:
            raise Revert(b"")
        computation.output = function(frame)

    return run


def selector(signature: str) -> bytes:
    return bytes(keccak(signature.encode())[:4])


def _address(raw: bytes) -> Address:
    return Address(raw)
