"""Questions to the chain, and the one way to hand it a transaction, with typed answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.chain import answers
from plumised.chain.fees import FeeMarket
from plumised.chain.rpc_errors import RpcMethodMissingError, RpcRefusedError
from plumised.chain.send_refusals import SendRefusal, classify

if TYPE_CHECKING:
    from plumised.chain.rpc import Rpc


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A simulated call ended in an error.

    Attributes:
        text: what the node says.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A node has the transaction."""


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A node refused the transaction.

    Attributes:
        why: what it means.
        text: what the node says.
    """

    why: SendRefusal
    text: str


class ChainReader:
    """The chain as seen through the endpoints. Every method may raise RpcError; none writes but `send`.

    Args:
        rpc: the endpoints, opened.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    @property
    def chain_id(self) -> int:
        """Of the chain that every answer is from."""
        return self._rpc.chain_id

    async def make_sure(self) -> None:
        """Ask for the chain itself, so that what is read next decides about the right one."""
        await self._rpc.request("eth_chainId", (), lambda value: answers.quantity(value, "the chain's id"), fresh=True)

    async def latest_block(self) -> answers.Block:
        """Return the head of the latest block."""
        return await self._rpc.request("eth_getBlockByNumber", ("latest", False), answers.block)

    async def fee_market(self) -> FeeMarket:
        """Return what the chain asks for gas at the moment."""
        block = await self.latest_block()
        price = await self._quantity("eth_gasPrice")
        tip: int | None = None
        if block.base_fee is not None:
            try:
                tip = await self._quantity("eth_maxPriorityFeePerGas")
            except RpcMethodMissingError:
                tip = None
        return FeeMarket(base_fee=block.base_fee, gas_price=price, tip=tip)

    async def balance(self, address: str) -> int:
        """Return the balance in wei as of the latest block."""
        return await self._quantity("eth_getBalance", address, "latest")

    async def mined_nonce(self, address: str) -> int:
        """Return the next nonce as of the latest block."""
        return await self._quantity("eth_getTransactionCount", address, "latest")

    async def pending_nonce(self, address: str) -> int:
        """Return the next nonce after what waits in the endpoint's pool."""
        return await self._quantity("eth_getTransactionCount", address, "pending")

    async def call(self, to: str, data: bytes, *, sender: str, gas: int | None = None) -> bytes | CallFailed:
        """Simulate a call on the latest block; it costs nothing and changes nothing.

        Args:
            to: contract or precompile.
            data: calldata.
            sender: as whom.
            gas: limit, or None for the node's own.
        """
        fields = {"from": sender, "to": to, "data": "0x" + data.hex()}
        if gas is not None:
            fields["gas"] = hex(gas)
        try:
            return await self._rpc.request(
                "eth_call", (fields, "latest"), lambda value: answers.data(value, "the call's result")
            )
        except RpcMethodMissingError:
            raise
        except RpcRefusedError as refusal:
            return CallFailed(refusal.text)

    async def send(self, raw: bytes) -> Taken | NotTaken:
        """Hand a signed transaction to a node. After an RpcError it is unknown whether a node has it.

        Handing over the same bytes again does no harm.
        """
        try:
            await self._rpc.request(
                "eth_sendRawTransaction",
                ("0x" + raw.hex(),),
                lambda value: answers.transaction_hash(value, "the transaction's hash"),
                fresh=True,
            )
        except RpcMethodMissingError:
            raise
        except RpcRefusedError as refusal:
            why = classify(refusal.text)
            return Taken() if why is SendRefusal.ALREADY_KNOWN else NotTaken(why, refusal.text)
        return Taken()

    async def receipt(self, transaction_hash: str) -> answers.Receipt | None:
        """Return the receipt of a mined transaction, or None."""
        return await self._rpc.request(
            "eth_getTransactionReceipt", (transaction_hash,), lambda value: answers.receipt_of(transaction_hash, value)
        )

    async def knows(self, transaction_hash: str) -> bool:
        """Return whether the endpoint has the transaction, in its pool or in a block."""
        try:
            return await self._rpc.request(
                "eth_getTransactionByHash", (transaction_hash,), lambda value: value is not None
            )
        except RpcRefusedError as refusal:
            if "not found" in refusal.text.lower():
                return False
            raise

    async def is_agent_account(self, address: str) -> bool | None:
        """Return whether the address is registered at precompile 0x21, or None where endpoints cannot say."""
        try:
            return await self._rpc.request(
                "agent_isAgentAccount",
                (address, "latest"),
                lambda value: answers.truth(value, "whether the address is an agent"),
            )
        except RpcRefusedError:
            # Nodes without the method do not all say -32601; any refusal means that this way leads nowhere.
            return None

    async def _quantity(self, method: str, *params: object) -> int:
        return await self._rpc.request(method, params, lambda value: answers.quantity(value, method))
