"""A wallet of tests: signs with a public test key and sends through web3, as any user of the chain would."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from eth_account import Account
from eth_typing import HexStr
from web3 import AsyncHTTPProvider, AsyncWeb3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from eth_account.signers.local import LocalAccount
    from eth_account.types import AccessListEntry
    from hexbytes import HexBytes
    from web3.types import TxParams, TxReceipt

CHAIN_ID: Final = 41956
ONE_PLM: Final = 10**18
ALICE: Final[LocalAccount] = Account.from_key(b"\x46" * 32)
BOB: Final[LocalAccount] = Account.from_key(b"\xab" * 32)


def precompile(number: int) -> str:
    return f"0x{number:040x}"


def registration(name: str = "bloom-560m-E4855A4F") -> bytes:
    """Return calldata of 0x21 for an agent without a model or capabilities."""
    return name.encode().ljust(32, b"\0") + bytes(64)


class Wallet:
    """Signs and sends for one account; everything that a test does not say has a default that works."""

    def __init__(self, web3: AsyncWeb3[AsyncHTTPProvider], account: LocalAccount) -> None:
        self.web3 = web3
        self.account = account

    @property
    def address(self) -> str:
        return str(self.account.address)

    def sign(self, to: str, data: bytes = b"", **fields: int) -> bytes:
        """Sign a transaction; with `gasPrice` it is a legacy one."""
        transaction: dict[str, Sequence[AccessListEntry] | bytes | HexStr | int] = {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": HexStr(to),
            "data": data,
            "value": 0,
            "gas": 300_000,
        }
        if "gasPrice" not in fields:
            transaction |= {"maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0}
        return bytes(self.account.sign_transaction(transaction | fields).raw_transaction)

    async def send(self, to: str, data: bytes = b"", **fields: int) -> HexBytes:
        """Send a transaction, with the next pending nonce unless one is given."""
        if "nonce" not in fields:
            fields["nonce"] = await self.web3.eth.get_transaction_count(self.account.address, "pending")
        return await self.web3.eth.send_raw_transaction(self.sign(to, data, **fields))

    async def run(self, to: str, data: bytes = b"", **fields: int) -> TxReceipt:
        """Send a transaction that is mined at once, and return its receipt."""
        return await self.web3.eth.get_transaction_receipt(await self.send(to, data, **fields))

    async def call(self, to: str, data: bytes = b"") -> bytes:
        """Simulate a call of this account on the latest state."""
        return bytes(await self.web3.eth.call(self._request(to, data)))

    async def estimate(self, to: str, data: bytes = b"", gas_price: int = 0) -> int:
        """Ask how much gas a call of this account needs."""
        request = self._request(to, data)
        if gas_price:
            request["gasPrice"] = self.web3.to_wei(gas_price, "wei")
        return await self.web3.eth.estimate_gas(request)

    def _request(self, to: str, data: bytes) -> TxParams:
        return {"from": self.account.address, "to": self.web3.to_checksum_address(to), "data": data}


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncWeb3[AsyncHTTPProvider]]:
    """Connect to a node, without web3's own retries."""
    provider = AsyncHTTPProvider(url, exception_retry_configuration=None)
    try:
        yield AsyncWeb3(provider)
    finally:
        await provider.disconnect()
