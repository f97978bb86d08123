"""Builds frozen dataclasses from parsed JSON, strictly: the right fields with the right types, or an error.

It knows the types that this package's messages use: `str`, `int`, `float`, `bool`, string enumerations, `X | None`,
`tuple[X, ...]` and nested dataclasses. Every integer of the protocol counts or numbers something, so none is negative.
"""

from __future__ import annotations

import dataclasses
import json
import math
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, TypeVar, Union, get_args, get_origin, get_type_hints

from plumised.nesting import nested_too_deeply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import DataclassInstance

LARGEST_INTEGER = 2**63 - 1
"""What SQLite, and any signed 64-bit counter, can hold."""

T = TypeVar("T", bound="DataclassInstance")


class ShapeError(ValueError):
    """A value does not have the shape that its type asks for. The message names the field."""


def parse_object(text: str) -> dict[str, object]:
    """Parse a JSON object.

    Raises:
        ShapeError: for anything else: broken JSON, another JSON value, a key that comes twice, NaN and infinities,
            numbers too long or objects too deep to parse.
    """
    if nested_too_deeply(text):
        raise ShapeError("nested too deeply")
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except ShapeError:
        raise
    except RecursionError:
        raise ShapeError("nested too deeply") from None
    except ValueError as error:
        raise ShapeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ShapeError("not an object")
    return value


def build(kind: type[T], values: Mapping[str, object]) -> T:
    """Build a dataclass from the members of a JSON object; a field with a default may be missing.

    Raises:
        ShapeError: for a missing or unknown member and for a value of another type, NaN and infinities, negative or
            too large integers, and text that is not Unicode (lone surrogates).
    """
    return _build(kind, values, kind.__name__)


def _build(kind: type[T], values: Mapping[str, object], where: str) -> T:
    types = _field_types(kind)
    unknown = values.keys() - types.keys()
    if unknown:
        raise ShapeError(f"{where}: unknown field {min(unknown)!r}")
    arguments = {name: _value(types[name], value, f"{where}.{name}") for name, value in values.items()}
    for field in dataclasses.fields(kind):
        if field.name not in values and field.default is dataclasses.MISSING:
            raise ShapeError(f"{where}: field {field.name!r} is missing")
    return kind(**arguments)


@cache
def _field_types(kind: type[DataclassInstance]) -> dict[str, object]:
    hints: dict[str, object] = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _value(expected: object, value: object, where: str) -> object:
    origin = get_origin(expected)
    if origin is UnionType or origin is Union:
        return _optional(expected, value, where)
    if origin is tuple:
        return _items(expected, value, where)
    if isinstance(expected, type):
        if dataclasses.is_dataclass(expected):
            if not isinstance(value, dict):
                raise ShapeError(f"{where}: not an object")
            return _build(expected, value, where)
        if issubclass(expected, StrEnum):
            return _member(expected, value, where)
    return _scalar(expected, value, where)


def _optional(expected: object, value: object, where: str) -> object:
    if value is None:
        return None
    (inner,) = (choice for choice in get_args(expected) if choice is not NoneType)
    return _value(inner, value, where)


def _items(expected: object, value: object, where: str) -> tuple[object, ...]:
    if not isinstance(value, list):
        raise ShapeError(f"{where}: not a list")
    inner = get_args(expected)[0]
    return tuple(_value(inner, item, f"{where}[{position}]") for position, item in enumerate(value))


def _member(expected: type[StrEnum], value: object, where: str) -> StrEnum:
    try:
        return expected(str(value) if isinstance(value, str) else "")
    except ValueError:
        raise ShapeError(f"{where}: not one of {', '.join(expected)}") from None


def _scalar(expected: object, value: object, where: str) -> object:
    if expected is bool and isinstance(value, bool):
        return value
    if expected is str and isinstance(value, str):
        return _text(value, where)
    if expected is int and isinstance(value, int) and not isinstance(value, bool):
        return _integer(value, where)
    if expected is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, where)
    raise ShapeError(f"{where}: not of type {getattr(expected, '__name__', expected)}")


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ShapeError(f"{where}: a lone surrogate is no text") from None
    return value


def _integer(value: int, where: str) -> int:
    if not 0 <= value <= LARGEST_INTEGER:
        raise ShapeError(f"{where}: out of range")
    return value


def _number(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ShapeError(f"{where}: not a finite number")
    return number


def _refuse_constant(name: str) -> object:
    raise ShapeError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ShapeError("a member comes twice")
    return members
