"""The web3 secret-storage v3 keystore: how a key is encrypted on disk.

Format: https://ethereum.org/developers/docs/data-structures-and-encoding/web3-secret-storage. Key derivation is slow on
purpose and, with geth's parameters, takes 256 MiB for that time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json
from eth_utils.address import is_hex_address, to_checksum_address
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from plumised.chain.secret_files import SecretFileMissingError, read_secret_file
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.chain.password import Password

STANDARD_SCRYPT_N = 262_144
"""geth's "standard" cost: https://geth.ethereum.org/docs/developers/dapp-developer/native-accounts."""

_LONGEST_KEYSTORE = 64 * 1024
_MOST_SCRYPT_BYTES = 1 << 30
_MOST_PBKDF2_ROUNDS = 10_000_000


class WalletMissingError(OperatorError):
    """The configured keystore does not exist."""

    code = "wallet-missing"


class WalletDamagedError(OperatorError):
    """The keystore is not a web3 secret-storage v3 file, or its parts contradict each other."""

    code = "wallet-damaged"


class WrongPasswordError(OperatorError):
    """The password does not open the keystore."""

    code = "wallet-password"


class Keystore:
    """A keystore as read, still encrypted.

    Attributes:
        path: where it was read.
        address: that it names, EIP-55 checksummed; None where it names none.
    """

    def __init__(self, path: Path, document: dict[str, object], address: str | None) -> None:
        self.path = path
        self.address = address
        self._document = document

    def decrypt(self, password: Password) -> bytes:
        """Return what is encrypted, a private key if all is well.

        Raises:
            WrongPasswordError: the password does not open it.
            WalletDamagedError: it cannot be decoded.
        """
        try:
            return decode_keyfile_json(self._document, password.reveal().encode("utf-8"))
        except ValueError as error:
            if str(error) == "MAC mismatch":
                raise WrongPasswordError(
                    f"The password does not open the keystore {self.path}",
                    "Correct wallet.password_file or wallet.password_credential; the keystore is unchanged.",
                ) from None
            raise damaged(self.path, "its encrypted part cannot be decoded") from None


def encrypted(key: bytes, password: Password, scrypt_n: int) -> bytes:
    """Return the content of a keystore for `key`, with scrypt at cost `scrypt_n`, a power of two."""
    document = create_keyfile_json(key, password.reveal().encode("utf-8"), kdf="scrypt", iterations=scrypt_n)
    return (json.dumps(document) + "\n").encode("ascii")


def read_keystore(path: Path) -> Keystore:
    """Read and check the keystore at `path`.

    Raises:
        WalletMissingError: there is no keystore.
        SecretFileError: it is readable by others, belongs to somebody else, or cannot be read.
        WalletDamagedError: it is no v3 keystore, or one that takes more than 1 GiB to open.
    """
    try:
        content = read_secret_file(path, limit=_LONGEST_KEYSTORE)
    except SecretFileMissingError:
        raise WalletMissingError(
            f"There is no keystore at {path}",
            "Run plumised wallet create (with --instance NAME for plumised@NAME.service), or correct wallet.keystore.",
        ) from None
    return parse_keystore(path, content)


def parse_keystore(path: Path, content: bytes) -> Keystore:
    """Check the content of a keystore; `path` is where it stands.

    Raises:
        WalletDamagedError: it is no v3 keystore, or one that takes more than 1 GiB to open.
    """
    try:
        document = _lower_case_keys(json.loads(content))
        checked = _Keystore.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{where}: {first['msg']}" if where else first["msg"]) from None
    except (ValueError, RecursionError):
        raise damaged(path, "it is not a JSON object") from None
    address = checked.address and str(to_checksum_address("0x" + checked.address.removeprefix("0x")))
    return Keystore(path, document, address)


def damaged(path: Path, reason: str) -> WalletDamagedError:
    """Return that the keystore cannot be used."""
    return WalletDamagedError(
        f"{path} is not a usable web3 v3 keystore: {reason}",
        "Restore it from your copy, or import the private key with plumised wallet import.",
    )


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
    model_config = ConfigDict(strict=True)

    version: int = Field(ge=3, le=3)
    crypto: _Crypto
    address: str | None = None

    @model_validator(mode="after")
    def _sound_address(self) -> _Keystore:
        if self.address is not None and not is_hex_address(self.address):
            raise ValueError("the address is not 40 hexadecimal digits")
        return self


def _lower_case_keys(value: object) -> dict[str, object]:
    """Return the object with lower-case keys at every level: old clients wrote "Crypto" and "KDFParams"."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 # the caller's answer to every malformed file
    return {
        str(key).lower(): _lower_case_keys(entry) if isinstance(entry, dict) else entry for key, entry in value.items()
    }
