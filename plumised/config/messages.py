"""What pydantic finds wrong with a value, in the words of the file that the operator edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plumised.config.problems import UnfitError
from plumised.config.settings import SECTIONS
from plumised.config.values import kind, shown

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from plumised.config.sources import Key

_WANTED = {
    "bool_type": ("a boolean", "Write true or false, without quotes."),
    "int_type": ("a whole number", "Write the number without quotes and without a fraction."),
    "float_type": ("a number", "Write the number without quotes."),
    "string_type": ("a string", "Write the value in quotes."),
}
_LIMITS = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


@dataclass(frozen=True, slots=True)
class Fault:
    """One key's mistake, without the place: see `ConfigProblem`."""

    key: Key
    problem: str
    remedy: str


def faults(error: ValidationError) -> list[Fault]:
    """Each mistake that pydantic found, in its order."""
    return [_fault(details) for details in error.errors(include_url=False) if not _follows(details)]


def _follows(details: ErrorDetails) -> bool:
    """Whether this only follows from items that were found wrong: those are not counted as items."""
    return details["type"] == "too_short" and bool(details["input"])


def _fault(details: ErrorDetails) -> Fault:
    key = tuple(str(part) for part in details["loc"][:2])
    context: dict[str, Any] = details.get("ctx", {})
    value: object = details["input"]
    cause = context.get("error")
    inner = len(details["loc"]) > len(key)
    verb = "holds" if inner else "is"
    match details["type"]:
        case "value_error" if isinstance(cause, UnfitError):
            return Fault(key, cause.problem, cause.remedy)
        case "literal_error":
            choices = _choices(context.get("expected", ""))
            return Fault(key, f"{verb} {_described(value)}, which it cannot be", f"Write one of {choices}.")
        case "too_short":
            return Fault(key, "is an empty array", "Write at least one value, or remove the key for its default.")
        case name if name in _OUT_OF_RANGE:
            limits = _limits(_field(key))
            return Fault(key, f"{verb} {shown(value)}, which is out of range", f"Write a number {limits}.")
        case name if name in _WANTED:
            wanted, remedy = _WANTED[name]
            return Fault(key, f"{verb} {_described(value)}, not {wanted}", remedy)
        case _:
            return Fault(
                key, f"{verb} {_described(value)}, which it cannot be", "docs/configuration.md says what it can be."
            )


def _described(value: object) -> str:
    return f"the string {shown(value)}" if isinstance(value, str) else _with_value(value)


def _with_value(value: object) -> str:
    text = shown(value)
    return text if text == kind(value) else f"{text}, {kind(value)}" if isinstance(value, float) else text


def _choices(expected: str) -> str:
    return ", ".join(word.strip(" '") for word in expected.replace(" or ", ",").split(",") if word.strip(" '"))


def _field(key: Key) -> FieldInfo | None:
    section = SECTIONS.get(key[0])
    return section.model_fields.get(key[1]) if section is not None and len(key) > 1 else None


def _limits(field: FieldInfo | None) -> str:
    """The bounds of a number's field in words, as `from 1 to 32`."""
    bounds: dict[str, object] = {}
    for mark in _marks(field.metadata if field else []):
        for name in _LIMITS:
            if getattr(mark, name, None) is not None:
                bounds[name] = getattr(mark, name)
    if {"ge", "le"} <= bounds.keys():
        return f"from {bounds['ge']} to {bounds['le']}"
    return " and ".join(phrase.format(bounds[name]) for name, phrase in _LIMITS.items() if name in bounds)


def _marks(metadata: list[Any]) -> list[object]:
    marks: list[object] = []
    for mark in metadata:
        marks.extend(_marks(mark.metadata) if hasattr(mark, "metadata") else [mark])
    return marks
