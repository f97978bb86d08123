"""The EVM's 32-byte words: how numbers, addresses, names and mapping slots become words, and back."""

from __future__ import annotations

from typing import Final

from eth_hash.auto import keccak

WORD: Final = 32
MAX_WORD: Final = 2**256 - 1


class MalformedWordError(Exception):
    """A word does not hold what its place in the calldata asks for."""


def number(value: int) -> bytes:
    return value.to_bytes(WORD, "big")


def address_word(address: bytes) -> bytes:
    return address.rjust(WORD, b"\0")


def split(data: bytes) -> tuple[bytes, ...]:
    """Cut calldata into words; raises MalformedWordError when it is not a whole number of them."""
    if len(data) % WORD:
        raise MalformedWordError(f"calldata of {len(data)} bytes is not made of 32-byte words")
    return tuple(data[at : at + WORD] for at in range(0, len(data), WORD))


def as_address(word: bytes) -> bytes:
    """Return the address of a left-padded word; raises MalformedWordError for dirty padding or the zero address."""
    padding, address = word[:12], word[12:]
    if any(padding):
        raise MalformedWordError("address is not left-padded with zeros")
    if not any(address):
        raise MalformedWordError("address is zero")
    return address


def as_name(word: bytes) -> str:
    """Return the text of a right-padded UTF-8 word; raises MalformedWordError if it is empty or padded elsewhere."""
    text = word.rstrip(b"\0")
    if not text or b"\0" in text:
        raise MalformedWordError("name is empty or not right-padded with zeros")
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise MalformedWordError("name is not UTF-8") from error


def slot(key: bytes, mapping: int, field: int = 0) -> int:
    """Return the storage slot of `mapping[key].field`, laid out as Solidity does."""
    return (int.from_bytes(keccak(key.rjust(WORD, b"\0") + number(mapping)), "big") + field) % (MAX_WORD + 1)
