"""The agent's key: kept in a web3 secret-storage v3 keystore, opened once, used only to sign.

The key derivation takes about a second and, with geth's parameters, 256 MiB for that time: callers on an event loop run
`open_wallet`, `create_keystore` and `import_key` in a thread.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from eth_utils.address import is_hex_address, to_checksum_address
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from plumised.chain.fees import DynamicFee, Fee
from plumised.chain.secret_files import SecretFileMissingError, create_secret_file, read_secret_file
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from eth_account.signers.local import LocalAccount

    from plumised.chain.password import Password

STANDARD_SCRYPT_N = 262_144
"""geth's "standard" cost: https://geth.ethereum.org/docs/developers/dapp-developer/native-accounts."""

_LONGEST_KEYSTORE = 64 * 1024
_KEY_BYTES = 32
_MOST_SCRYPT_BYTES = 1 << 30
_MOST_PBKDF2_ROUNDS = 10_000_000
_SECP256K1_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


class WalletMissingError(OperatorError):
    """The configured keystore does not exist."""

    code = "wallet-missing"


class WalletDamagedError(OperatorError):
    """The keystore is not a web3 secret-storage v3 file, or its parts contradict each other."""

    code = "wallet-damaged"


class WrongPasswordError(OperatorError):
    """The password does not open the keystore."""

    code = "wallet-password"


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
    if len(raw) != _KEY_BYTES or not 0 < int.from_bytes(raw, "big") < _SECP256K1_ORDER:
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
    keystore, document = _read_keystore(path)
    try:
        key = decode_keyfile_json(document, password.reveal().encode("utf-8"))
    except ValueError as error:
        if str(error) == "MAC mismatch":
            raise WrongPasswordError(
                f"The password does not open the keystore {path}",
                "Correct [wallet] password_file or password_credential in node.toml; the keystore is left as it is.",
            ) from None
        raise _damaged(path, "its encrypted part cannot be decoded") from None
    if len(key) != _KEY_BYTES or not 0 < int.from_bytes(key, "big") < _SECP256K1_ORDER:
        raise _damaged(path, "what it encrypts is not a secp256k1 private key")
    wallet = Wallet(key)
    if keystore.address is not None and _checksummed(keystore.address) != wallet.address:
        raise _damaged(path, f"it says address {keystore.address}, but its key is that of {wallet.address}")
    return wallet


def read_address(path: Path) -> str:
    """Return the checksummed address that the keystore at `path` names, without opening it.

    Raises:
        WalletMissingError: there is no keystore.
        SecretFileError: it is readable by others, belongs to somebody else, or cannot be read.
        WalletDamagedError: it is no v3 keystore, or it names no address.
    """
    keystore, _ = _read_keystore(path)
    if keystore.address is None:
        raise _damaged(path, "it does not name its address")
    return _checksummed(keystore.address)


class _KdfParameters(BaseModel):
    """Of scrypt (n, r, p) or of PBKDF2 (c, prf), within what can be computed here."""

    model_config = ConfigDict(strict=True)

    dklen: int = Field(ge=32, le=64)
    salt: str = Field(pattern=r"^(0x)?([0-9a-fA-F]{2})*$", max_length=256)
    n: int | None = Field(default=None, ge=2)
    r: int | None = Field(default=None, ge=1)
    p: int | None = Field(default=None, ge=1, le=64)
    c: int | None = Field(default=None, ge=1, le=_MOST_PBKDF2_ROUNDS)
    prf: str | None = None


class _CipherParameters(BaseModel):
    model_config = ConfigDict(strict=True)

    iv: str = Field(pattern=r"^(0x)?[0-9a-fA-F]{32}$")


class _Crypto(BaseModel):
    model_config = ConfigDict(strict=True)

    cipher: str = Field(pattern=r"^aes-128-ctr$")
    cipherparams: _CipherParameters
    ciphertext: str = Field(pattern=r"^(0x)?[0-9a-fA-F]{64}$")
    kdf: str = Field(pattern=r"^(scrypt|pbkdf2)$")
    kdfparams: _KdfParameters
    mac: str = Field(pattern=r"^(0x)?[0-9a-fA-F]{64}$")

    @model_validator(mode="after")
    def _computable(self) -> _Crypto:
        n, r, p = self.kdfparams.n, self.kdfparams.r, self.kdfparams.p
        if self.kdf == "pbkdf2":
            if self.kdfparams.c is None or self.kdfparams.prf != "hmac-sha256":
                raise ValueError("pbkdf2 needs c and prf hmac-sha256")
        elif n is None or r is None or p is None:
            raise ValueError("scrypt needs n, r and p")
        elif n & (n - 1) or 128 * n * r > _MOST_SCRYPT_BYTES:
            raise ValueError("scrypt needs n to be a power of two and 128·n·r to be at most 1 GiB")
        return self


class _Keystore(BaseModel):
    """Web3 secret storage, version 3: https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage."""

    model_config = ConfigDict(strict=True)

    version: int = Field(ge=3, le=3)
    crypto: _Crypto
    address: str | None = None

    @model_validator(mode="after")
    def _sound_address(self) -> _Keystore:
        if self.address is not None and not is_hex_address(self.address):
            raise ValueError("the address is not 40 hexadecimal digits")
        return self


def _read_keystore(path: Path) -> tuple[_Keystore, dict[str, object]]:
    try:
        content = read_secret_file(path, limit=_LONGEST_KEYSTORE)
    except SecretFileMissingError:
        raise WalletMissingError(
            f"There is no keystore at {path}", "Run plumised wallet create, or correct [wallet] keystore in node.toml."
        ) from None
    try:
        document = _lower_case_keys(json.loads(content))
        return _Keystore.model_validate(document), document
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{where}: {first['msg']}" if where else first["msg"]) from None
    except (ValueError, RecursionError):
        raise _damaged(path, "it is not a JSON object") from None


def _lower_case_keys(value: object) -> dict[str, object]:
    """Return the object with lower-case keys at every level: old clients wrote "Crypto" and "KDFParams"."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 # the caller's answer to every malformed file
    return {
        str(key).lower(): _lower_case_keys(entry) if isinstance(entry, dict) else entry for key, entry in value.items()
    }


def _store(path: Path, key: bytes, password: Password, scrypt_n: int) -> str:
    document: Mapping[str, object] = create_keyfile_json(
        key, password.reveal().encode("utf-8"), kdf="scrypt", iterations=scrypt_n
    )
    create_secret_file(path, (json.dumps(document) + "\n").encode("ascii"))
    return Wallet(key).address


def _checksummed(address: str) -> str:
    return str(to_checksum_address(address if address.startswith("0x") else "0x" + address))


def _damaged(path: Path, reason: str) -> WalletDamagedError:
    return WalletDamagedError(
        f"{path} is not a usable web3 v3 keystore: {reason}",
        "Restore it from your copy, or import the private key with plumised wallet import.",
    )
