"""Whether a request is one that Petals' clients make: its blocks, its metadata and its tensors.

Each function raises a `Refusal` that says what is wrong. Nothing here unpacks hidden states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plumised.petals.guard.refusal import Refusal
from plumised.petals.guard.tensors import NONE, Message, Shape, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plumised.petals.guard.limits import Limits

_DELIMITER: Final = " "
"""Of chained blocks, Petals' `CHAIN_DELIMITER`."""
_MOST_UID_CHARACTERS: Final = 16_384
METADATA_BYTES: Final = 65_536
_MOST_NAME: Final = 128
"""Characters of a session's or step's name, of a peer's id, of an adapter's name."""
_MOST_SERVERS: Final = 256
_MOST_BLOCKS: Final = 65_536
_MOST_POINTS: Final = 1e12
MOST_ARGUMENTS: Final = 3
_MARKER: Final = b"__T"
"""Stands for a tensor in `args_structure`, followed by its number; see Petals' `pack_args_kwargs`."""
_COMPRESSIONS: Final = 6
_THREE: Final = 3
_FOUR: Final = 4
_SERVER_FIELDS: Final = 4


def check_blocks(uid: str, served: Sequence[str]) -> int:
    """How many blocks a request asks for: some that are served, each once, in order, without a gap.

    Args:
        uid: of the request.
        served: the names of the blocks, in order.
    """
    if len(uid) > _MOST_UID_CHARACTERS:
        raise Refusal(f"{len(uid)} characters of block names")
    wanted = uid.split(_DELIMITER)
    first = served.index(wanted[0]) if wanted[0] in served else None
    if first is None or list(served[first : first + len(wanted)]) != wanted:
        raise Refusal(f"this server does not serve the blocks {uid[:_MOST_NAME]!r} in this order")
    return len(wanted)


def check_metadata(metadata: object) -> dict[str, Any]:
    """The metadata of a request, as far as all requests have it in common."""
    if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
        raise Refusal(f"metadata that is no map of names but a {type(metadata).__name__}")
    _check_number(metadata.get("points", 0), "points", _MOST_POINTS)
    _check_number(metadata.get("alloc_timeout", 0.0), "alloc_timeout", math.inf)
    for key in ("session_id", "step_id", "active_adapter"):
        value = metadata.get(key)
        if value is not None and (not isinstance(value, str) or len(value) > _MOST_NAME):
            raise Refusal(f"{key} is no name")
    _check_compression(metadata.get("output_compression"))
    _check_servers(metadata.get("next_servers"))
    return metadata


def check_length_of_session(metadata: dict[str, Any], longest: int) -> None:
    """The tokens for which a session wants to reserve cache."""
    length = metadata.get("max_length")
    if type(length) is not int or not 0 <= length <= longest:
        # In upstream's words, by which clients may know it.
        raise Refusal(f"Cannot allocate KV cache for {str(length)[:_MOST_NAME]} tokens, max = {longest}")


@dataclass(frozen=True, slots=True)
class Arguments:
    """The tensors of a request, in the order of the arguments.

    Attributes:
        positions: of each argument's tensor in the message; None for an argument that is left out.
    """

    positions: tuple[int | None, ...]


def arguments(structure: object, tensors: int, least: int) -> Arguments:
    """Which tensor is which argument.

    Args:
        structure: `args_structure` of the metadata, None where it has none.
        tensors: how many the message has.
        least: how many arguments there must be.
    """
    if tensors > MOST_ARGUMENTS:
        raise Refusal(f"{tensors} tensors")
    positions = tuple(range(tensors)) if structure is None else _positions(structure, tensors)
    if not least <= len(positions) <= MOST_ARGUMENTS or not positions or positions[0] is None:
        raise Refusal(f"{len(positions)} arguments")
    return Arguments(positions)


def check_pass(shapes: Sequence[Shape | None], blocks: int, limits: Limits, *, gradients: bool) -> None:
    """The arguments of a forward or backward pass: hidden states, their gradients, prompts."""
    states, *others = shapes
    batch, length = _check_states(states, limits)
    if batch * length == 0:
        raise Refusal("a pass of no tokens")
    if gradients:
        gradient, *others = others
        if states is None or gradient is None or gradient.size != states.size or not gradient.floating:
            raise Refusal("gradients of another size than their hidden states")
    _check_prompts(others[0] if others else None, blocks, batch, length, limits)


def check_step(shapes: Sequence[Shape | None], blocks: int, limits: Limits) -> tuple[int, int]:
    """The arguments of an inference step: hidden states, prompts, and which of the batch goes on with which.

    Returns:
        batch size and length.
    """
    states, prompts, order = shapes
    batch, length = _check_states(states, limits)
    _check_prompts(prompts, blocks, batch, length, limits)
    if order is None or order.floating or len(order.size) != 1 or (not order.empty and order.size != (batch,)):
        raise Refusal("no order of the batch, or one of another size")
    return batch, length


def check_order(message: Message, batch: int) -> None:
    """The values of the order: an index beyond the batch ends the process of a GPU."""
    if message.compression != NONE:
        raise Refusal("a compressed order of the batch")
    octets = message.buffer
    for start in range(0, len(octets), 8):
        if not 0 <= int.from_bytes(octets[start : start + 8], "little", signed=True) < batch:
            raise Refusal("an order that is beyond the batch")


def shapes_of(tensors: Sequence[Message], found: Arguments, limits: Limits, blocks: int) -> list[Shape | None]:
    """What the arguments are; all of their bytes are there."""
    most = most_values(limits, blocks)
    every = [whole(tensor, most) for tensor in tensors]
    return [None if position is None else every[position] for position in found.positions]


def most_values(limits: Limits, blocks: int) -> int:
    """Values that the largest tensor of a well-formed request has: prompts have states for each block."""
    return max(1, blocks) * limits.tokens * limits.hidden_size


def _check_states(states: Shape | None, limits: Limits) -> tuple[int, int]:
    if states is None or not states.floating or len(states.size) != _THREE or states.size[2] != limits.hidden_size:
        raise Refusal(f"hidden states that are not [batch, length, {limits.hidden_size}]")
    batch, length, _ = states.size
    if batch < 1 or batch * max(1, length) > limits.tokens:
        raise Refusal(f"{batch} sequences of {length} tokens where {limits.tokens} are the most at a time")
    return batch, length


def _check_prompts(prompts: Shape | None, blocks: int, batch: int, length: int, limits: Limits) -> None:
    if prompts is None or prompts.empty:
        # What has a dimension of no values at all is cut along its first one, value by value.
        if prompts is not None and len(prompts.size) != 1:
            raise Refusal("prompts of no values")
        return
    if (
        not prompts.floating
        or len(prompts.size) != _FOUR
        or prompts.size[0] != blocks
        or prompts.size[1] not in (1, batch)
        or prompts.size[2] > length
        or prompts.size[3] != limits.hidden_size
    ):
        raise Refusal(f"prompts that are not [{blocks}, {batch}, up to {length}, {limits.hidden_size}]")


def _positions(structure: object, tensors: int) -> tuple[int | None, ...]:
    if not isinstance(structure, list | tuple) or len(structure) != len(("args", "kwargs")):
        raise Refusal("an args_structure that is none")
    args, kwargs = structure
    if not isinstance(args, list | tuple) or kwargs != {} or len(args) > MOST_ARGUMENTS:
        raise Refusal("an args_structure of other arguments")
    return tuple(_position(each, tensors) for each in args)


def _position(item: object, tensors: int) -> int | None:
    if item is None:
        return None
    if isinstance(item, bytes) and item.startswith(_MARKER):
        digits = item.removeprefix(_MARKER)
        if len(digits) == 1 and digits.isdigit() and int(digits) < tensors:
            return int(digits)
    raise Refusal("an args_structure that names no tensor of the message")


def _check_number(value: object, name: str, most: float) -> None:
    if not isinstance(value, int | float) or not 0 <= value <= most:
        raise Refusal(f"{name} is no number that it can be")


def _check_compression(value: object) -> None:
    if value is not None and not (
        isinstance(value, list | tuple)
        and 1 <= len(value) <= MOST_ARGUMENTS
        and all(type(each) is int and 0 <= each < _COMPRESSIONS for each in value)
    ):
        raise Refusal("an output_compression that does not exist")


def _check_servers(value: object) -> None:
    if not value:
        return
    if not isinstance(value, list | tuple) or len(value) > _MOST_SERVERS or not all(map(_is_server, value)):
        raise Refusal("next_servers that are none")


def _is_server(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != _SERVER_FIELDS:
        return False
    peer, session, start, end = value
    names = all(isinstance(name, str) and len(name) <= _MOST_NAME for name in (peer, session))
    return names and all(type(block) is int for block in (start, end)) and 0 <= start < end <= _MOST_BLOCKS
