"""The agent's key: kept in a web3 secret-storage v3 keystore, opened once, used only to sign.

The key derivation takes about a second and, with geth's parameters, 256 MiB for that time: callers on an event loop run
`open_wallet`, `create_keystore`, `import_key`, `change_password` and `export_key` in a thread.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from eth_account import Account
from eth_account.messages import encode_defunct

from plumised.chain.fees import DynamicFee, Fee
from plumised.chain.keystore import STANDARD_SCRYPT_N, Keystore, damaged, encrypted, parse_keystore, read_keystore
from plumised.chain.secret_files import create_secret_file, replace_secret_file
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from eth_account.signers.local import LocalAccount

    from plumised.chain.password import Password

_KEY_BYTES = 32
_SECP256K1_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


class KeyUnusableError(OperatorError):
    """What was to be imported is not a private key."""

    code = "wallet-key-unusable"


@dataclass(frozen=True, slots=True)
class TransactionFields:
    """A transaction before it is signed.

    Attributes:
        chain_id: of the chain that it is for; replay on another is impossible (EIP-155).
        nonce: of the agent.
        to: contract or precompile, checksummed.
        data: calldata.
        gas: limit.
        fee: price of one gas.
        value: wei.
    """

    chain_id: int
    nonce: int
    to: str
    data: bytes
    gas: int
    fee: Fee
    value: int = 0


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction as it goes to a node.

    Attributes:
        raw: the encoded transaction with its signature.
        hash: keccak-256 of `raw`, 0x-hex.
    """

    raw: bytes
    hash: str


class Wallet:
    """The agent's key, once opened. It signs, and gives nothing else away.

    Attributes:
        address: the agent, EIP-55 checksummed.
    """

    __slots__ = ("_account", "address")

    def __init__(self, key: bytes) -> None:
        self._account: LocalAccount = Account.from_key(key)
        self.address: str = str(self._account.address)

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wallet is not serialised")

    def sign_text(self, text: str) -> str:
        """Return the EIP-191 `personal_sign` signature over the UTF-8 text: 65 bytes as 0x-hex, v being 27 or 28."""
        return "0x" + bytes(self._account.sign_message(encode_defunct(text=text)).signature).hex()

    def sign_transaction(self, fields: TransactionFields) -> SignedTransaction:
        """Return the transaction signed for its chain: EIP-1559 or legacy with EIP-155, as its fee is."""
        transaction: dict[str, int | str | bytes] = {
            "chainId": fields.chain_id,
            "nonce": fields.nonce,
            "to": fields.to,
            "data": fields.data,
            "gas": fields.gas,
            "value": fields.value,
        }
        if isinstance(fields.fee, DynamicFee):
            transaction |= {"type": 2, "maxFeePerGas": fields.fee.max_fee, "maxPriorityFeePerGas": fields.fee.tip}
        else:
            transaction |= {"gasPrice": fields.fee.gas_price}
        signed = self._account.sign_transaction(transaction)  # type: ignore[arg-type] # its dict type admits any value
        return SignedTransaction(raw=bytes(signed.raw_transaction), hash="0x" + bytes(signed.hash).hex())


def create_keystore(path: Path, password: Password, *, scrypt_n: int = STANDARD_SCRYPT_N) -> str:
    """Make a key from the system's random source, store it at `path` (mode 0600), and return its address.

    Args:
        path: the keystore; must not exist.
        password: encrypts the key.
        scrypt_n: cost of the key derivation, a power of two.

    Raises:
        SecretFileError: the path is taken or cannot be created.
    """
    return _store(path, (1 + secrets.randbelow(_SECP256K1_ORDER - 1)).to_bytes(32, "big"), password, scrypt_n)


def import_key(path: Path, key: str, password: Password, *, scrypt_n: int = STANDARD_SCRYPT_N) -> str:
    """Store an existing private key at `path` (mode 0600) and return its address.

    Args:
        path: the keystore; must not exist.
        key: 64 hexadecimal digits, with or without 0x; white space around them is ignored.
        password: encrypts the key.
        scrypt_n: cost of the key derivation, a power of two.

    Raises:
        KeyUnusableError: `key` is not a private key. The message does not repeat it.
        SecretFileError: the path is taken or cannot be created.
    """
    digits = key.strip().removeprefix("0x").removeprefix("0X")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if not _is_key(raw):
        raise KeyUnusableError(
            "What was given is not a secp256k1 private key", "Give the key as 64 hexadecimal digits."
        )
    return _store(path, raw, password, scrypt_n)


def open_wallet(path: Path, password: Password) -> Wallet:
    """Decrypt the keystore at `path`. Slow, and large for a moment: see the module's description.

    Raises:
        WalletMissingError: there is no keystore.
        SecretFileError: it is readable by others, belongs to somebody else, or cannot be read.
        WalletDamagedError: it is no v3 keystore, or its address is not that of its key.
        WrongPasswordError: the password does not open it.
    """
    return Wallet(_opened(read_keystore(path), password))


def export_key(path: Path, password: Password) -> str:
    """Return the private key of the keystore at `path`, 64 hexadecimal digits after 0x. Raises as `open_wallet`."""
    return "0x" + _opened(read_keystore(path), password).hex()


def change_password(path: Path, old: Password, new: Password, *, scrypt_n: int = STANDARD_SCRYPT_N) -> str:
    """Encrypt the keystore at `path` with another password, and return its address.

    The old file stays until a new one that opens with the new password is on disk. Nobody may use the wallet meanwhile:
    the caller holds its lock.

    Args:
        path: the keystore.
        old: opens it.
        new: opens it afterwards.
        scrypt_n: cost of the key derivation, a power of two.

    Raises:
        OperatorError: as `open_wallet`; or the file cannot be replaced. The keystore is as before.
    """
    key = _opened(read_keystore(path), old)
    content = encrypted(key, new, scrypt_n)
    if _opened(parse_keystore(path, content), new) != key:
        raise damaged(path, "it was not encrypted as it should be, so it is left as it was")
    replace_secret_file(path, content)
    return Wallet(key).address


def read_address(path: Path) -> str:
    """Return the checksummed address that the keystore at `path` names, without opening it.

    Raises:
        WalletMissingError: there is no keystore.
        SecretFileError: it is readable by others, belongs to somebody else, or cannot be read.
        WalletDamagedError: it is no v3 keystore, or it names no address.
    """
    keystore = read_keystore(path)
    if keystore.address is None:
        raise damaged(path, "it does not name its address")
    return keystore.address


def _store(path: Path, key: bytes, password: Password, scrypt_n: int) -> str:
    create_secret_file(path, encrypted(key, password, scrypt_n))
    return Wallet(key).address


def _opened(keystore: Keystore, password: Password) -> bytes:
    """Return the key in a keystore, once it proved to be the one of its address."""
    key = keystore.decrypt(password)
    if not _is_key(key):
        raise damaged(keystore.path, "what it encrypts is not a secp256k1 private key")
    address = Wallet(key).address
    if keystore.address not in {None, address}:
        raise damaged(keystore.path, f"it says address {keystore.address}, but its key is that of {address}")
    return key


def _is_key(raw: bytes) -> bool:
    return len(raw) == _KEY_BYTES and 0 < int.from_bytes(raw, "big") < _SECP256K1_ORDER
