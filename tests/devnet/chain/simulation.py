"""Calls that are simulated on a state of the chain, and what gas they need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from eth._utils.address import generate_contract_address
from eth.constants import CREATE_CONTRACT_ADDRESS
from eth.vm.message import Message
from eth_typing import Address

from tests.devnet.chain import evm
from tests.devnet.chain.blocks import error_text
from tests.devnet.chain.mempool import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eth.abc import ComputationAPI, StateAPI

CALL_GAS_CAP: Final = evm.GAS_LIMIT
TRANSACTION_GAS: Final = 21_000
CREATION_GAS: Final = 32_000


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


def simulate(call: Call, state: StateAPI, base_fee: int) -> Outcome:
    """Run a call on a state, whose changes are to be thrown away; raises RejectedError when it cannot even start."""
    gas = min(CALL_GAS_CAP if call.gas is None else call.gas, CALL_GAS_CAP)
    who = f"address 0x{call.sender.hex()}"
    if call.fee_cap and call.fee_cap < base_fee:
        raise RejectedError(
            f"err: max fee per gas less than block base fee: {who}, maxFeePerGas: {call.fee_cap}, "
            f"baseFee: {base_fee} (supplied gas {gas})"
        )
    have, want = state.get_balance(Address(call.sender)), gas * call.fee_cap + call.value
    if have < want:
        raise RejectedError(
            f"err: insufficient funds for gas * price + value: {who} have {have} want {want} (supplied gas {gas})"
        )
    intrinsic = _intrinsic_gas(call)
    if gas < intrinsic:
        raise RejectedError(f"err: intrinsic gas too low: have {gas}, want {intrinsic} (supplied gas {gas})")
    return _outcome(_run(call, state, gas - intrinsic), intrinsic)


def estimate(call: Call, fresh_state: Callable[[], StateAPI], base_fee: int) -> Outcome:
    """Return the outcome of a call with the least gas at which it succeeds as `gas_used`.

    A call that fails with all the gas that it may have comes back as it failed. Raises RejectedError when it cannot
    start, or only lacks gas that its sender could not pay for.
    """
    most = min(CALL_GAS_CAP if call.gas is None else call.gas, CALL_GAS_CAP)
    if call.fee_cap:
        balance = fresh_state().get_balance(Address(call.sender))
        if balance < call.value:
            raise RejectedError("insufficient funds for transfer")
        most = min(most, (balance - call.value) // call.fee_cap)
    if most < _intrinsic_gas(call):
        raise RejectedError(f"gas required exceeds allowance ({most})")

    def attempt(gas: int) -> Outcome:
        return simulate(replace(call, gas=gas), fresh_state(), base_fee)

    widest = attempt(most)
    if widest.error == "out of gas":
        raise RejectedError(f"gas required exceeds allowance ({most})")
    if not widest.succeeded:
        return widest
    low, high = widest.gas_used, most
    if attempt(low).succeeded:
        high = low
    while high - low > 1:
        middle = min((low + high) // 2, low * 2)
        low, high = (low, middle) if attempt(middle).succeeded else (middle, high)
    return replace(widest, gas_used=high)


def _run(call: Call, state: StateAPI, gas: int) -> ComputationAPI:
    sender = Address(call.sender)
    context = state.get_transaction_context_class()(gas_price=call.fee_cap, origin=sender)
    if call.to is None:
        creation = Message(
            gas=gas,
            to=CREATE_CONTRACT_ADDRESS,
            sender=sender,
            value=call.value,
            data=b"",
            code=call.data,
            create_address=generate_contract_address(sender, state.get_nonce(sender)),
        )
        return evm.DevnetComputation.apply_create_message(state, creation, context)
    to = Address(call.to)
    message = Message(gas=gas, to=to, sender=sender, value=call.value, data=call.data, code=state.get_code(to))
    return evm.DevnetComputation.apply_message(state, message, context)


def _intrinsic_gas(call: Call) -> int:
    zeros = call.data.count(0)
    creation = CREATION_GAS if call.to is None else 0
    return TRANSACTION_GAS + 4 * zeros + 16 * (len(call.data) - zeros) + creation


def _outcome(computation: ComputationAPI, intrinsic: int) -> Outcome:
    error = error_text(computation)
    return Outcome(
        output=bytes(computation.output),
        gas_used=intrinsic + computation.get_gas_used(),
        reverted=error is not None and not computation.should_burn_gas,
        error=error,
    )
