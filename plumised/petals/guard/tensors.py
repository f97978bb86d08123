"""Whether a tensor of a message is what it says. To be asked before anything unpacks it.

Upstream takes the shape, the type and the compression of a tensor from the message, and unpacks its bytes by them: a
type such as `S1000000` makes a million bytes of each value, and a table of scales that is too short is read beyond its
end by native code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from plumised.petals.guard.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUE_BYTES: Final = {"float64": (8,), "float32": (4,), "float16": (2,), "bfloat16": (4, 2), "int64": (8,)}
"""Types that peers may send. hivemind sends bfloat16 as float32 unless told otherwise."""
_FLOATING: Final = frozenset(_VALUE_BYTES) - {"int64"}
_MOST_DIMENSIONS: Final = 4
_LONGEST_DIMENSION: Final = 2**31

NONE, MEANSTD_16BIT, FLOAT16, QUANTILE_8BIT, UNIFORM_8BIT, BLOCKWISE_8BIT = range(6)
"""hivemind's `CompressionType`, see its runtime.proto; a test compares."""
_CODEBOOK: Final = 256
_BLOCK: Final = 4096
"""Values for which `BLOCKWISE_8BIT` has one scale."""


class Message(Protocol):
    """What is asked of hivemind's `runtime_pb2.Tensor`."""

    size: Sequence[int]
    dtype: str
    compression: int
    buffer: bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """A tensor that may be unpacked.

    Attributes:
        size: of its dimensions.
        floating: whether its values are.
        buffer_bytes: how many bytes it comes in; several where the type has several forms.
    """

    size: tuple[int, ...]
    floating: bool
    buffer_bytes: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether it has no values, as what stands for a tensor that was left out."""
        return math.prod(self.size) == 0


def head(message: Message, most_values: int) -> Shape:
    """What a tensor says it is, of which only the first bytes may be there.

    Args:
        message: it.
        most_values: that it may have.

    Raises:
        Refusal: that is nothing to unpack.
    """
    size = tuple(message.size)
    if not 1 <= len(size) <= _MOST_DIMENSIONS or not all(0 <= length <= _LONGEST_DIMENSION for length in size):
        raise Refusal(f"a tensor of size {_brief(size)}")
    values = math.prod(size)
    if values > most_values:
        raise Refusal(f"a tensor of {values} values where {most_values} are the most")
    if message.dtype not in _VALUE_BYTES:
        raise Refusal(f"a tensor of type {message.dtype[:40]!r}")
    return Shape(size, message.dtype in _FLOATING, _buffer_bytes(message, size, values))


def whole(message: Message, most_values: int) -> Shape:
    """What a tensor is that has all of its bytes.

    Raises:
        Refusal: it is nothing to unpack, or its bytes are not as many as it says.
    """
    shape = head(message, most_values)
    check_length(shape, len(message.buffer))
    return shape


def check_length(shape: Shape, arrived: int) -> None:
    """Raise a `Refusal` unless that is the number of bytes in which such a tensor comes."""
    if arrived not in shape.buffer_bytes:
        raise Refusal(f"{arrived} bytes for a tensor of size {_brief(shape.size)}")


def _buffer_bytes(message: Message, size: tuple[int, ...], values: int) -> tuple[int, ...]:
    compression = message.compression
    if compression == NONE:
        return tuple(values * each for each in _VALUE_BYTES[message.dtype])
    if message.dtype not in _FLOATING:
        raise Refusal(f"compression {compression} of a tensor of type {message.dtype}")
    match compression:
        case _ if compression in (FLOAT16, MEANSTD_16BIT) and message.dtype == "bfloat16":
            raise Refusal(f"compression {compression} of a tensor of type {message.dtype}")
        case _ if compression == FLOAT16:
            return (2 * values,)
        case _ if compression == MEANSTD_16BIT and values:
            return (2 * values + 2 * 4 * (values // size[-1]),)
        case _ if compression in (QUANTILE_8BIT, UNIFORM_8BIT) and values:
            _check_counts(message, _CODEBOOK)
            return (8 + 4 * _CODEBOOK + values,)
        case _ if compression == BLOCKWISE_8BIT and values:
            scales = math.ceil(values / _BLOCK)
            _check_counts(message, scales, _CODEBOOK)
            return (16 + 4 * scales + 4 * _CODEBOOK + values,)
    raise Refusal(f"compression {compression} of a tensor of {values} values")


def _check_counts(message: Message, *wanted: int) -> None:
    """The lengths of its tables, with which such a buffer begins."""
    for position, count in enumerate(wanted):
        found = int.from_bytes(message.buffer[8 * position : 8 * position + 8], "little", signed=True)
        if found != count:
            raise Refusal(f"a table of {found} entries where {count} belong")


def _brief(size: tuple[int, ...]) -> str:
    return str(size[: _MOST_DIMENSIONS + 1])
