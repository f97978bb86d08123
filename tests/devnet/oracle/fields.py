"""Field lists: which fields a message may and must have, and of what kind. An unknown field refuses all of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tests.devnet.oracle.refusal import Refused, too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Object: TypeAlias = "dict[str, object]"

MAX_BODY_BYTES = 100_000
"""wire-formats: a body above 100 kB is answered 413. Decimal, the stricter reading."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What one field has to be.

    Attributes:
        holds: whether a value is all right.
        wish: how the answer goes on after the field's name when it is not.
        required: whether the field may be missing.
    """

    holds: Callable[[object], bool]
    wish: str
    required: bool = True


def violations(message: Object, rules: Mapping[str, Rule], prefix: str = "") -> tuple[str, ...]:
    """Everything that is wrong with the fields of a message, unknown ones first."""
    unknown = [f"{prefix}property {name} should not exist" for name in message if name not in rules]
    wrong = [
        f"{prefix}{name} {rule.wish}"
        for name, rule in rules.items()
        if (name in message or rule.required) and not rule.holds(message.get(name))
    ]
    return (*unknown, *wrong)


def check_fields(message: Object, rules: Mapping[str, Rule], more: tuple[str, ...] = ()) -> None:
    """Raise Refused (400, a list) if a field of the message is wrong, or `more` is."""
    if found := violations(message, rules) + more:
        raise Refused(400, found)


def parse_object(raw: bytes, content_type: str) -> Object:
    """Read a body.

    A body that is not declared as JSON is not read, so all of its fields are missing.

    Raises:
        Refused: it is too large, no JSON, or no object.
    """
    if len(raw) > MAX_BODY_BYTES:
        raise too_large()
    if content_type.partition(";")[0].strip().lower() != "application/json":
        return {}
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"Unexpected token in JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refused(400, "Unexpected token in JSON: an object was expected")
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def is_number(value: object) -> bool:
    """A finite number that is not negative."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def is_count(value: object) -> bool:
    """A number without a fraction that is not negative; `7.0` is one too, as in JavaScript."""
    return is_number(value) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))


def is_positive_count(value: object) -> bool:
    """A count of at least one."""
    return is_count(value) and value != 0


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def is_address(value: object) -> bool:
    """An account's address, in any case."""
    return isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value) is not None


def is_hash(value: object) -> bool:
    """Thirty-two bytes in hex with 0x."""
    return isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{64}", value) is not None


ADDRESS = Rule(is_address, "must be an Ethereum address")
COUNT = Rule(is_count, "must be an integer number not less than 0")
NUMBER = Rule(is_number, "must be a number not less than 0")
TEXT = Rule(is_text, "must be a string")
HASH = Rule(is_hash, "must match /^0x[0-9a-fA-F]{64}$/")
