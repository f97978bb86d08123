"""How much strangers may have of one connection handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 2**20
_LEAST_MESSAGE: Final = 8 * _MIB
"""Twice the part in which hivemind streams (`DEFAULT_MAX_MSG_SIZE`), so that parts of any model fit."""
_LEAST_BUFFERED: Final = 64 * _MIB
_VALUE_BYTES: Final = 4
_STATES_OF_A_MESSAGE: Final = 3
"""A backward pass sends hidden states, gradients and prompts; an inference step states and prompts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one handler process.

    Attributes:
        hidden_size: values of one hidden state.
        tokens: of one step or pass, batch times length.
        message_bytes: of one message of a stream, and of all messages of a streamed pass together.
        buffered_bytes: of all messages that have arrived and are not served yet.
        peer_buffered_bytes: the same, of one peer.
        requests: RPCs at a time, those included whose peer has gone while they are still computed.
        peer_requests: the same, of one peer.
        room_s: seconds that a message waits for room in `buffered_bytes`.
        first_message_s: seconds until a stream must have said what it wants.
        grace_s: seconds that a request may be idle before it makes room for others where there is none.
        unread_s: seconds that a reply waits for its peer to read it.
        empty_steps: inference steps without tokens, in one session.
    """

    hidden_size: int
    tokens: int
    message_bytes: int
    buffered_bytes: int
    peer_buffered_bytes: int
    requests: int = 256
    peer_requests: int = 64
    room_s: float = 10.0
    first_message_s: float = 20.0
    grace_s: float = 10.0
    unread_s: float = 60.0
    empty_steps: int = 64


def limits_of(hidden_size: int, tokens: int) -> Limits:
    """The limits for blocks with that hidden size, whose pools take that many tokens at a time."""
    message = max(_LEAST_MESSAGE, _STATES_OF_A_MESSAGE * tokens * hidden_size * _VALUE_BYTES + _MIB)
    buffered = max(_LEAST_BUFFERED, 4 * message)
    return Limits(hidden_size, tokens, message, buffered, buffered // 2)
