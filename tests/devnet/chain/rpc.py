"""The JSON-RPC methods of the node, on a chain that it may see less of than there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_typing import Address
from pydantic import JsonValue

from tests.devnet.chain import parameters, rendering
from tests.devnet.chain.blockchain import CHAIN_ID, Blockchain
from tests.devnet.chain.mempool import RejectedError
from tests.devnet.chain.native import ERROR_SELECTOR, Storage
from tests.devnet.chain.parameters import INVALID_PARAMETERS, SERVER_ERROR, RpcError
from tests.devnet.chain.precompiles import REGISTER_AGENT, agent_at
from tests.devnet.chain.rendering import hexed, quantity

if TYPE_CHECKING:
    from eth.abc import StateAPI

    from tests.devnet.chain.blocks import Sealed
    from tests.devnet.chain.simulation import Outcome

CLIENT_VERSION: Final = "plumise-devnet/v1.0.0/py-evm"
METHOD_NOT_FOUND: Final = -32601
REVERTED: Final = 3
MAX_FEE_HISTORY: Final = 1024

Params = Sequence[JsonValue]


@dataclass(frozen=True)
class View:
    """What one request sees of the chain.

    Attributes:
        height: number of the last block it sees; None for all.
        chain_id: what it is told when it asks.
        agent_methods: whether agent_* exist.
    """

    height: int | None = None
    chain_id: int = CHAIN_ID
    agent_methods: bool = True


class Rpc:
    """Answers single calls; `submitted` is called after a transaction was taken, before its sender is answered."""

    def __init__(self, chain: Blockchain, submitted: Callable[[], None]) -> None:
        self._chain = chain
        self._submitted = submitted
        self._methods: dict[str, Callable[[View, Params], JsonValue]] = {
            "web3_clientVersion": lambda _view, _params: CLIENT_VERSION,
            "net_version": lambda view, _params: str(view.chain_id),
            "net_listening": lambda _view, _params: True,
            "eth_chainId": lambda view, _params: quantity(view.chain_id),
            "eth_syncing": lambda _view, _params: False,
            "eth_accounts": lambda _view, _params: [],
            "eth_blockNumber": lambda view, _params: quantity(self._head(view).number),
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_gasPrice": self._gas_price,
            "eth_maxPriorityFeePerGas": lambda _view, _params: quantity(self._chain.conditions.min_tip),
            "eth_feeHistory": self._fee_history,
            "eth_estimateGas": self._estimate,
            "eth_call": self._call,
            "eth_sendRawTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._logs,
            "txpool_status": self._pool_status,
            "agent_isAgentAccount": self._is_agent,
            "agent_getAgentMeta": self._agent_meta,
        }

    def answer(self, method: str, params: JsonValue, view: View) -> JsonValue:
        """Return the result of one call; raises RpcError."""
        known = self._methods.get(method)
        if known is None or (method.startswith("agent_") and not view.agent_methods):
            raise RpcError(METHOD_NOT_FOUND, f"the method {method} does not exist/is not available")
        if params is not None and not isinstance(params, list):
            raise RpcError(INVALID_PARAMETERS, "non-array args")
        return known(view, params or [])

    # What a request sees

    def _head(self, view: View) -> Sealed:
        last = self._chain.head.number
        return self._chain.blocks[last if view.height is None else min(view.height, last)]

    def _sealed(self, view: View, value: JsonValue, at: int) -> Sealed | None:
        """Find the block that a parameter means: tag, number, or an object of EIP-1898."""
        head = self._head(view).number
        if isinstance(value, dict):
            if isinstance(value.get("blockHash"), str):
                found = self._chain.by_hash(parameters.hash_of([value["blockHash"]], 0))
                return found if found is not None and found.number <= head else None
            value = value.get("blockNumber")
        height = parameters.height(value, at, head)
        return self._chain.blocks[height] if height <= head else None

    def _height(self, view: View, params: Params, at: int) -> int:
        """Return the height of the block whose state a call asks for; raises RpcError when there is none."""
        sealed = self._sealed(view, params[at] if len(params) > at else None, at)
        if sealed is None:
            raise RpcError(SERVER_ERROR, "header not found")
        return sealed.number

    def _state(self, view: View, params: Params, at: int) -> StateAPI:
        return self._chain.state(self._height(view, params, at))

    # Blocks

    def _block_by_number(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 2)
        sealed = self._sealed(view, params[0], 0)
        return None if sealed is None else rendering.block(sealed, full=params[1] is True)

    def _block_by_hash(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 2)
        sealed = self._chain.by_hash(parameters.hash_of(params, 0))
        if sealed is None or sealed.number > self._head(view).number:
            return None
        return rendering.block(sealed, full=params[1] is True)

    # Accounts

    def _balance(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        return quantity(self._state(view, params, 1).get_balance(Address(parameters.address(params, 0))))

    def _transaction_count(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        sender = parameters.address(params, 0)
        nonce = self._state(view, params, 1).get_nonce(Address(sender))
        if len(params) > 1 and params[1] == "pending":
            nonce = self._chain.pool.pending_nonce(sender, nonce)
        return quantity(nonce)

    def _code(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        return hexed(self._state(view, params, 1).get_code(Address(parameters.address(params, 0))))

    def _storage(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 2)
        state = self._state(view, params, 2)
        word = state.get_storage(Address(parameters.address(params, 0)), parameters.quantity(params[1], 1))
        return hexed(word.to_bytes(32, "big"))

    # Fees

    def _gas_price(self, view: View, _params: Params) -> JsonValue:
        return quantity(self._head(view).base_fee + self._chain.conditions.min_tip)

    def _fee_history(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 2)
        count = min(parameters.quantity(params[0], 0), MAX_FEE_HISTORY)
        last = self._height(view, params, 1)
        percentiles = params[2] if len(params) > 2 and isinstance(params[2], list) else None
        blocks = self._chain.blocks[max(0, last + 1 - count) : last + 1] if count else []
        following = (
            self._chain.blocks[last + 1].base_fee if last < self._chain.head.number else self._chain.conditions.base_fee
        )
        history: dict[str, JsonValue] = {
            "oldestBlock": quantity(blocks[0].number if blocks else 0),
            "baseFeePerGas": [quantity(fee) for fee in (*(b.base_fee for b in blocks), following)],
            "gasUsedRatio": [int(b.header.gas_used) / int(b.header.gas_limit) for b in blocks],
        }
        if percentiles is not None:
            history["reward"] = [[quantity(_tip(b, p)) for p in percentiles] for b in blocks]
        return history

    # Simulation

    def _call(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        try:
            outcome = self._chain.call(parameters.call(params[0], 0), self._height(view, params, 1))
        except RejectedError as error:
            raise RpcError(SERVER_ERROR, str(error)) from error
        _raise_failure(outcome)
        return hexed(outcome.output)

    def _estimate(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        try:
            outcome = self._chain.estimate(parameters.call(params[0], 0), self._height(view, params, 1))
        except RejectedError as error:
            raise RpcError(SERVER_ERROR, str(error).removeprefix("err: ")) from error
        _raise_failure(outcome)
        return quantity(outcome.gas_used)

    # Transactions

    def _send(self, _view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        parameters.at_most(params, 1)
        try:
            tx_hash = self._chain.submit(parameters.data(params[0], 0))
        except RejectedError as error:
            raise RpcError(SERVER_ERROR, str(error)) from error
        self._submitted()
        return hexed(tx_hash)

    def _transaction(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        tx_hash = parameters.hash_of(params, 0)
        place = self._chain.place(tx_hash)
        if place is not None:
            visible = place[0].number <= self._head(view).number
            return rendering.transaction(place[1].transaction, place[1].sender, place) if visible else None
        waiting = self._chain.pool.find(tx_hash)
        return None if waiting is None else rendering.waiting(waiting)

    def _receipt(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        place = self._chain.place(parameters.hash_of(params, 0))
        if place is None or place[0].number > self._head(view).number:
            return None
        return rendering.receipt(*place)

    def _logs(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 1)
        wanted = params[0]
        if not isinstance(wanted, dict):
            raise RpcError(INVALID_PARAMETERS, "invalid argument 0: not a filter")
        if "blockHash" in wanted:
            first = last = self._height(view, [{"blockHash": wanted["blockHash"]}], 0)
        else:
            head = self._head(view).number
            first = parameters.height(wanted.get("fromBlock"), 0, head)
            last = min(parameters.height(wanted.get("toBlock"), 0, head), head)
        accounts = {hexed(parameters.address([each], 0)) for each in _options(wanted.get("address"))}
        topics = wanted.get("topics") or []
        if not isinstance(topics, list):
            raise RpcError(INVALID_PARAMETERS, "invalid argument 0: topics are not a list")
        return [
            rendering.log(sealed, mined, entry)
            for sealed in self._chain.blocks[first : last + 1]
            for mined in sealed.mined
            for entry in mined.logs
            if (not accounts or hexed(entry.address) in accounts) and _topics_match(entry.topics, topics)
        ]

    def _pool_status(self, _view: View, _params: Params) -> JsonValue:
        waiting = tuple(self._chain.pool)
        queued = sum(self._chain.is_queued(each) for each in waiting)
        return {"pending": quantity(len(waiting) - queued), "queued": quantity(queued)}

    # Agents

    def _is_agent(self, view: View, params: Params) -> JsonValue:
        return self._agent_meta(view, params) is not None

    def _agent_meta(self, view: View, params: Params) -> JsonValue:
        parameters.required(params, 2)
        parameters.at_most(params, 2)
        found = agent_at(Storage(self._state(view, params, 1), REGISTER_AGENT), parameters.address(params, 0))
        if found is None:
            return None
        return {
            "name": found.name,
            "modelHash": hexed(found.model_hash),
            "capabilities": [hexed(each) for each in found.capabilities],
            "beneficiary": None if found.beneficiary is None else hexed(found.beneficiary),
            "registeredAt": quantity(found.registered_at),
            "lastHeartbeat": quantity(found.last_heartbeat),
        }


def _raise_failure(outcome: Outcome) -> None:
    if outcome.reverted:
        reason = _reason(outcome.output)
        text = "execution reverted" + (f": {reason}" if reason else "")
        raise RpcError(REVERTED, text, hexed(outcome.output))
    if outcome.error is not None:
        raise RpcError(SERVER_ERROR, outcome.error)


def _reason(output: bytes) -> str:
    if output[:4] != ERROR_SELECTOR:
        return ""
    try:
        (reason,) = decode(["string"], output[4:])
    except DecodingError:
        return ""
    return str(reason)


def _tip(sealed: Sealed, percentile: JsonValue) -> int:
    """Return the tip at a percentile of the block's gas, as eth_feeHistory defines it."""
    if not isinstance(percentile, int | float) or not 0 <= percentile <= 100:
        raise RpcError(SERVER_ERROR, "invalid reward percentile")
    base_fee = sealed.base_fee
    paid = sorted((mined.gas_price - base_fee, mined.gas_used) for mined in sealed.mined)
    threshold, seen = int(sealed.header.gas_used) * percentile / 100, 0
    for tip, gas in paid:
        seen += gas
        if seen >= threshold:
            return tip
    return 0


def _options(value: JsonValue) -> list[JsonValue]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _topics_match(topics: tuple[bytes, ...], wanted: list[JsonValue]) -> bool:
    if len(wanted) > len(topics):
        return False
    return all(
        not options or hexed(topic) in [str(each).lower() for each in options]
        for topic, options in zip(topics, map(_options, wanted), strict=False)
    )
