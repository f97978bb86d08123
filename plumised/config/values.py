"""The values that need more than a type: each parser returns the value in its one canonical form or says what is wrong.

Raises `UnfitError` only. No value that may be a secret is repeated in a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from eth_utils.address import is_checksum_address, to_checksum_address

from plumised.config.problems import UnfitError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Item = TypeVar("Item", bound=Hashable)

SHOWN_LENGTH = 60
MAX_NAME_BYTES = 32
"""The chain registers an agent's name in one 32-byte word."""
MAX_BLOCK = 100_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SPAN = re.compile(r"([0-9]{1,6}):([0-9]{1,6})")
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,2})?")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A contiguous range of transformer blocks, `end` not included."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"


def shown(value: object) -> str:
    """The value as a message repeats it: bounded, on one line, as one would write it in TOML."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = '"' + value.encode("unicode_escape", "backslashreplace").decode("ascii") + '"'
        case int() if value.bit_length() > 4 * SHOWN_LENGTH:
            return f"a number of {value.bit_length()} bits"
        case float() if value.is_integer() and abs(value) < 10**SHOWN_LENGTH:
            text = repr(int(value))
        case int() | float():
            text = repr(value)
        case _:
            return kind(value)
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 4] + '…"'


def kind(value: object) -> str:  # noqa: PLR0911 - one return for each of TOML's types
    """The value's type in the words of TOML."""
    match value:
        case bool():
            return "a boolean"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case str():
            return "a string"
        case dict():
            return "a table"
        case list() | tuple():
            return "an array"
        case None:
            return "nothing"
        case _:
            return "a date or time"


def array(value: object) -> tuple[object, ...]:
    """An array as an immutable sequence; its items are checked one by one elsewhere."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, list):
        return tuple(value)
    raise UnfitError(f"is {kind(value)}, not an array", "Write the values in brackets, also a single one.")


def distinct(values: tuple[Item, ...]) -> tuple[Item, ...]:
    """The values, none of which may be there twice."""
    seen: set[Item] = set()
    for value in values:
        if value in seen:
            raise UnfitError(f"holds {shown(value)} twice", "Remove one of them.")
        seen.add(value)
    return values


def node_name(value: str) -> str:
    """A short name that fits into file names."""
    if _NAME.fullmatch(value) and len(value.encode()) <= MAX_NAME_BYTES:
        return value
    raise UnfitError(
        f"is {shown(value)}, which cannot be a node's name",
        f"Write 1 to {MAX_NAME_BYTES} letters, digits, dots, hyphens or underscores, beginning with a letter or digit.",
    )


def name_of_host(host_name: str, instance: str | None = None) -> str:
    """The node name that a host's name makes: what does not fit is left out, and never is it empty.

    An instance's name comes after it, whole, so that the nodes of a machine can be told apart.
    """
    kept = re.sub(r"^[._-]+", "", re.sub(r"[^A-Za-z0-9._-]", "", host_name)) or "node"
    if instance is None:
        return kept[:MAX_NAME_BYTES]
    return "-".join(part for part in (kept[: max(0, MAX_NAME_BYTES - len(instance) - 1)], instance) if part)


def absolute_path(value: object) -> Path:
    """An absolute path; nothing is expanded and nothing need exist."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        raise UnfitError(f"is {kind(value)}, not a path", "Write an absolute path in quotes.")
    if "\0" in value:
        raise UnfitError("holds a NUL character", "Write an absolute path.")
    if not value.startswith("/"):
        raise UnfitError("is not an absolute path", "Write the whole path, beginning with a slash.")
    return Path(value)


def span(value: object) -> Span:
    """A span written as `start:end`."""
    if isinstance(value, Span):
        return value
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UnfitError(
            f"is {shown(value)}, not a span of blocks",
            'Write the first block and the block after the last in quotes, as in "0:12".',
        )
    start, end = int(match[1]), int(match[2])
    if start >= end:
        raise UnfitError(
            f"is {shown(value)}, a span that holds no block",
            "Write a second number, the block after the last, that is greater than the first.",
        )
    if end > MAX_BLOCK:
        raise UnfitError(f"ends at block {end}", f"No model has more than {MAX_BLOCK} blocks.")
    return Span(start, end)


def model(value: str) -> str:
    """The name of a model on the hub, or the absolute path of a directory."""
    if value.startswith("/"):
        if "\0" in value:
            raise UnfitError("holds a NUL character", "Write a model's name or an absolute path.")
        return value
    if _HUB_NAME.fullmatch(value):
        return value
    raise UnfitError(
        f"is {shown(value)}, neither a model's name nor an absolute path",
        'Write a name such as "bigscience/bloom-560m", or the whole path of a directory that holds the checkpoint.',
    )


def _pattern(pattern: re.Pattern[str], what: str, remedy: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if pattern.fullmatch(value):
            return value
        raise UnfitError(f"is {shown(value)}, not {what}", remedy)

    return check


revision = _pattern(_REVISION, "a revision", "Write a branch, a tag or a commit of the model's repository.")
device = _pattern(_DEVICE, "a device", 'Write "auto", "cpu", "cuda", "cuda:0" (or another number) or "mps".')
prefix = _pattern(_PREFIX, "a prefix", "Write letters, digits, hyphens and underscores, no dots.")
public_name = _pattern(
    re.compile(r"[^\x00-\x1f\x7f]{1,100}"), "a public name", "Write 1 to 100 characters without line breaks."
)


def credential(value: str) -> str:
    """The name of a systemd credential; not repeated in messages, since it may be the password by mistake."""
    if _CREDENTIAL.fullmatch(value):
        return value
    raise UnfitError(
        "is not a credential's name",
        "Write the name, without any path, that LoadCredential= gives it in the unit.",
    )


def throughput(value: object) -> float | None:
    """Requests per second to announce; None, written `"auto"`, stands for measuring it."""
    if value is None or value == "auto":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 10**9:
        return float(value)
    raise UnfitError(
        f"is {shown(value)}, not a throughput",
        'Write "auto" to have it measured, or a number of requests per second above 0.',
    )


def heartbeat_interval(value: float) -> float:
    """Seconds between heartbeats, less than what the chain waits before it calls an agent dead."""
    if value >= 300:  # noqa: PLR2004 - the chain's own limit, in wire-formats as 300 s
        raise UnfitError(
            f"is {shown(value)}, and the chain calls an agent dead after 300 s without a heartbeat",
            "Write less than 300; 120 leaves room for a heartbeat that is lost.",
        )
    return value


def address(value: str) -> str:
    """An EVM address in checksum form (EIP-55); one written in mixed case must have the right checksum."""
    digits = value[2:]
    if not _ADDRESS.fullmatch(value):
        raise UnfitError(f"is {shown(value)}, not an address", "Write 0x and 40 hexadecimal digits.")
    if digits not in (digits.lower(), digits.upper()) and not is_checksum_address(value):
        raise UnfitError(
            f"is {shown(value)}, an address whose checksum is wrong",
            "Compare it with its source, letter by letter; upper and lower case are the checksum.",
        )
    return str(to_checksum_address(value))
