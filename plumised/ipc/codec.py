"""Framing of messages on the socket: four bytes of length, big-endian, then a JSON object in UTF-8.

The object is the message's fields and a member `type` with the message's name.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from typing import Final, Literal

from plumised.ipc.messages import Beat, Failure, Hello, Message, Refused, Sandbox, State, Usage, Welcome
from plumised.ipc.typed import ShapeError, build, parse_object

MAX_FRAME: Final = 65536
"""Bytes of the longest object that is taken; the four bytes of length come on top."""

_LENGTH: Final = struct.Struct(">I")

_TYPES: Final[dict[str, type[Message]]] = {
    "hello": Hello,
    "welcome": Welcome,
    "refused": Refused,
    "usage": Usage,
    "state": State,
    "sandbox": Sandbox,
    "beat": Beat,
    "failure": Failure,
}
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}

FrameFault = Literal["oversized", "malformed", "unknown-type", "shape"]


class FrameError(Exception):
    """Bytes that are not the protocol's. The connection they came from cannot be read any further.

    Attributes:
        code: `oversized` (longer than allowed), `malformed` (not a JSON object in UTF-8), `unknown-type`, or `shape`
            (missing, unknown, wrongly typed, negative or non-finite fields).
    """

    def __init__(self, code: FrameFault, message: str) -> None:
        super().__init__(message)
        self.code: FrameFault = code


def encode(message: Message, max_frame: int = MAX_FRAME) -> bytes:
    """The frame of a message.

    Raises:
        FrameError: `oversized` if it would be longer than `max_frame`, `shape` if a text holds lone surrogates.
    """
    members = {"type": _NAMES[type(message)], **asdict(message)}
    try:
        body = json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise FrameError("shape", "a lone surrogate is no text") from None
    if len(body) > max_frame:
        raise FrameError("oversized", f"a frame of {len(body)} bytes is over the limit of {max_frame}")
    return _LENGTH.pack(len(body)) + body


class Decoder:
    """Turns the bytes of one connection, however they are cut, into messages.

    It holds at most one incomplete frame. After an error it stays in error: where the next frame starts is unknown.
    """

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._rest = bytearray()
        self._error: FrameError | None = None

    @property
    def buffered(self) -> int:
        """Bytes of the incomplete frame that are held, at most `max_frame` + 4."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete, in order.

        Raises:
            FrameError: the bytes are not the protocol's. Nothing else, whatever the bytes.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._take(data)
        except FrameError as error:
            self._error = error
            self._rest.clear()
            raise

    def _take(self, data: bytes) -> list[Message]:
        self._rest += data
        messages: list[Message] = []
        start = 0
        while len(self._rest) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest, start)
            if length > self._max_frame:
                raise FrameError("oversized", f"a frame of {length} bytes is over the limit of {self._max_frame}")
            end = start + _LENGTH.size + length
            if len(self._rest) < end:
                break
            messages.append(_decode(bytes(self._rest[start + _LENGTH.size : end])))
            start = end
        del self._rest[:start]
        return messages


def _decode(body: bytes) -> Message:
    try:
        members = parse_object(body.decode())
    except (UnicodeDecodeError, ShapeError) as error:
        raise FrameError("malformed", str(error)) from None
    name = members.pop("type", None)
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise FrameError("unknown-type", f"no message is called {str(name)[:40]!r}")
    try:
        return build(kind, members)
    except ShapeError as error:
        raise FrameError("shape", str(error)[:200]) from None
