"""The bytes of every call that a node makes, and the answers read back. Pure; formats: docs/chain.md.

Precompiles take raw 32-byte words without a selector; contracts take Solidity's ABI.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from eth_utils.crypto import keccak

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD: Final = 32
"""Bytes of a word."""

ZERO_HASH: Final = bytes(WORD)

_ADDRESS_BYTES: Final = 20
_SUFFIX_DIGITS: Final = 8

GET_PENDING_REWARD: Final = bytes.fromhex("4df9d6ba")
"""Selector of `getPendingReward(address)`."""
CLAIM_REWARD: Final = bytes.fromhex("b88a802f")
"""Selector of `claimReward()`."""
GET_CONTRIBUTION: Final = bytes.fromhex("21eff7fc")
"""Selector of `getContribution(address)`."""
GET_CURRENT_EPOCH: Final = bytes.fromhex("b97dd9e2")
"""Selector of `getCurrentEpoch()`."""
REGISTRY_REGISTER_AGENT: Final = bytes.fromhex("9c795951")
"""Selector of `registerAgent(bytes32,string)`."""
REGISTRY_HEARTBEAT: Final = bytes.fromhex("3defb962")
"""Selector of `heartbeat()`."""
REGISTRY_IS_REGISTERED: Final = bytes.fromhex("c3c5a547")
"""Selector of `isRegistered(address)`."""
REGISTRY_IS_ACTIVE: Final = bytes.fromhex("9f8a13d7")
"""Selector of `isActive(address)`."""

CONTRIBUTION_WORDS: Final = 6
"""Words that `getContribution` answers."""


def model_hash(model: str) -> bytes:
    """Return how the network names a model: keccak-256 of the UTF-8 name."""
    return bytes(keccak(text=model))


def registration_name(model: str, agent: str) -> str:
    """Return the name that a node registers: the model's short name, and what tells its agents apart.

    `bloom-560m-E4855A4F` for `bigscience/bloom-560m`. Characters that would need quoting become hyphens, and a long
    model name is cut, so that the name always fits a word.

    Args:
        model: hub name or path of the model.
        agent: checksummed address.
    """
    suffix = "-" + agent[-_SUFFIX_DIGITS:]
    short = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    return short[: WORD - len(suffix)].rstrip("-.") + suffix if short else suffix[1:]


def register_agent(
    name: str, model: bytes = ZERO_HASH, capabilities: Sequence[bytes] = (), beneficiary: str | None = None
) -> bytes:
    """Return the calldata of precompile 0x21.

    Args:
        name: 1 to 32 bytes of UTF-8.
        model: hash of the served model.
        capabilities: words of 32 bytes.
        beneficiary: address that rewards go to; None leaves them with the agent.

    Raises:
        ValueError: a part does not have its size.
    """
    encoded = name.encode("utf-8")
    if not 0 < len(encoded) <= WORD:
        raise ValueError(f"an agent's name has 1 to {WORD} bytes, this one has {len(encoded)}")
    words = [encoded.ljust(WORD, b"\0"), _word(model), uint_word(len(capabilities)), *map(_word, capabilities)]
    if beneficiary is not None:
        words.append(address_word(beneficiary))
    return b"".join(words)


def heartbeat(agent: str | None = None) -> bytes:
    """Return the calldata of precompile 0x22; None speaks for the sender."""
    return b"" if agent is None else address_word(agent)


def claim_reward(agent: str | None = None) -> bytes:
    """Return the calldata of precompile 0x23; None speaks for the sender."""
    return b"" if agent is None else address_word(agent)


def verify_inference(model: bytes, input_hash: bytes, output_hash: bytes, agent: str, token_count: int) -> bytes:
    """Return the calldata of precompile 0x20, whose sender must be `agent`.

    Raises:
        ValueError: a hash has not 32 bytes, or the count is not positive.
    """
    if token_count < 1:
        raise ValueError("a proof covers at least one token")
    return b"".join((_word(model), _word(input_hash), _word(output_hash), address_word(agent), uint_word(token_count)))


def of_address(selector: bytes, address: str) -> bytes:
    """Return the calldata of a contract's function of one address."""
    return selector + address_word(address)


def registry_register_agent(identifier: bytes, text: str) -> bytes:
    """Return the calldata of the AgentRegistry contract's `registerAgent(bytes32,string)`."""
    encoded = text.encode("utf-8")
    padded = encoded + bytes(-len(encoded) % WORD)
    return REGISTRY_REGISTER_AGENT + _word(identifier) + uint_word(2 * WORD) + uint_word(len(encoded)) + padded


def registry_identifier(name: str) -> bytes:
    """Return the identifier of a node in the AgentRegistry contract: keccak-256 of the name that it registers."""
    return bytes(keccak(text=name))


def address_word(address: str) -> bytes:
    """Return the address left-padded to a word. ValueError where it is not 0x and 40 hexadecimal digits."""
    raw = bytes.fromhex(address.removeprefix("0x"))
    if len(raw) != _ADDRESS_BYTES:
        raise ValueError(f"an address has {_ADDRESS_BYTES} bytes, {address!r} has {len(raw)}")
    return raw.rjust(WORD, b"\0")


def uint_word(value: int) -> bytes:
    """Return the number as a big-endian word. OverflowError where it does not fit or is negative."""
    return value.to_bytes(WORD, "big")


def read_words(answer: bytes, count: int) -> tuple[int, ...] | None:
    """Return the first `count` words of a call's answer as numbers, or None where it is shorter."""
    if len(answer) < count * WORD:
        return None
    return tuple(int.from_bytes(answer[start : start + WORD], "big") for start in range(0, count * WORD, WORD))


def read_bool(answer: bytes) -> bool | None:
    """Return a call's answer as a truth value, or None where it is none: an empty account answers nothing."""
    words = read_words(answer, 1)
    return bool(words[0]) if words is not None and words[0] in {0, 1} else None


def _word(value: bytes) -> bytes:
    if len(value) != WORD:
        raise ValueError(f"a word has {WORD} bytes, this one has {len(value)}")
    return value
