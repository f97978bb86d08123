"""Reading the parameters of JSON-RPC calls, with geth's codes for those that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eth_utils.address import is_address

from tests.devnet.chain.simulation import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import JsonValue

INVALID_PARAMETERS: Final = -32602
SERVER_ERROR: Final = -32000
TAGS: Final = ("latest", "pending", "safe", "finalized")


class RpcError(Exception):
    """An error that the caller is told: code, message and, for reverts, data."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, JsonValue]:
        shown: dict[str, JsonValue] = {"code": self.code, "message": self.message}
        return shown if self.data is None else shown | {"data": self.data}


def required(params: Sequence[JsonValue], count: int) -> None:
    """Refuse a call with fewer parameters."""
    if len(params) < count:
        raise RpcError(INVALID_PARAMETERS, f"missing value for required argument {len(params)}")


def at_most(params: Sequence[JsonValue], count: int) -> None:
    """Refuse a call with more parameters."""
    if len(params) > count:
        raise RpcError(INVALID_PARAMETERS, f"too many arguments, want at most {count}")


def address(params: Sequence[JsonValue], at: int) -> bytes:
    value = params[at]
    if not isinstance(value, str) or not value.startswith("0x") or not is_address(value.lower()):
        raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: not an address")
    return bytes.fromhex(value[2:])


def data(value: JsonValue, at: int) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: hex string without 0x prefix")
    try:
        return bytes.fromhex(value[2:])
    except ValueError as error:
        raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: invalid hex string") from error


def hash_of(params: Sequence[JsonValue], at: int) -> bytes:
    value = data(params[at], at)
    if len(value) != 32:
        raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: hash of {len(value)} bytes")
    return value


def quantity(value: JsonValue, at: int) -> int:
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: not a hex quantity")


def height(value: JsonValue, at: int, head: int) -> int:
    """Return the block number that a tag or number means; it may be above `head`."""
    if value is None or value in TAGS:
        return head
    if value == "earliest":
        return 0
    return quantity(value, at)


def call(value: JsonValue, at: int) -> Call:
    """Read a call object; unknown members are refused, as they would be silently without effect."""
    if not isinstance(value, dict):
        raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: not a call object")
    known = {
        "from", "to", "data", "input", "value", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "nonce",
        "type", "chainId", "accessList",
    }  # fmt: skip
    if unknown := set(value) - known:
        raise RpcError(INVALID_PARAMETERS, f"invalid argument {at}: unknown member {min(unknown)}")
    given = {name: content for name, content in value.items() if content is not None}
    if "gasPrice" in given and "maxFeePerGas" in given:
        raise RpcError(SERVER_ERROR, "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
    fee = given.get("gasPrice", given.get("maxFeePerGas", "0x0"))
    return Call(
        sender=address([given["from"]], 0) if "from" in given else bytes(20),
        to=address([given["to"]], 0) if given.get("to") not in (None, "", "0x") else None,
        data=data(given.get("input", given.get("data", "0x")), at),
        value=quantity(given.get("value", "0x0"), at),
        gas=quantity(given["gas"], at) if "gas" in given else None,
        fee_cap=quantity(fee, at),
    )
