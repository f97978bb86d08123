"""The framing: what is encoded comes back however the bytes are cut; whatever else comes is a FrameError."""

import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ipc.codec import MAX_FRAME, Decoder, FrameError, encode
from plumised.ipc.messages import Failure, Hello, Message, Phase, Role, State, Usage, Welcome
from tests.unit.ipc.strategies import messages


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def fault_of(body: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        Decoder().feed(frame(body))
    return caught.value.code


def cut(data: bytes, at: list[int]) -> list[bytes]:
    borders = [0, *sorted({position % (len(data) + 1) for position in at}), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 10**6), max_size=20))
def test_every_message_comes_back_from_its_frame_however_the_bytes_are_cut(sent: list[Message], at: list[int]) -> None:
    decoder = Decoder()
    data = b"".join(encode(message) for message in sent)
    assert [message for part in cut(data, at) for message in decoder.feed(part)] == sent
    assert decoder.buffered == 0


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_random_bytes_give_messages_or_a_frame_error_and_nothing_piles_up(parts: list[bytes]) -> None:
    decoder = Decoder(max_frame=256)
    for part in parts:
        try:
            decoder.feed(part)
        except FrameError:
            assert decoder.buffered == 0
        assert decoder.buffered <= 260


@given(messages, st.data())
def test_a_damaged_frame_gives_messages_or_a_frame_error(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        if not damaged:
            break
    decoder = Decoder()
    try:
        decoder.feed(bytes(damaged))
    except FrameError:
        return
    assert decoder.buffered <= MAX_FRAME + 4


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(messages, st.data())
def test_a_field_of_any_other_value_gives_a_message_or_a_frame_error(message: Message, data: st.DataObject) -> None:
    members = json.loads(encode(message)[4:])
    members[data.draw(st.sampled_from(sorted(members)))] = data.draw(json_values)
    body = json.dumps(members).encode()
    try:
        [decoded] = Decoder().feed(frame(body))
    except FrameError:
        return
    assert Decoder().feed(encode(decoded)) == [decoded]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "malformed"),
        (b"[]", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b'{"type":"welcome","protocol":NaN}', "malformed"),
        (b'{"type":"welcome","protocol":1,"protocol":2}', "malformed"),
        (b"[" * 60000, "malformed"),
        (b'{"type":"welcome","protocol":' + b"9" * 60000 + b"}", "malformed"),
        (b"{}", "unknown-type"),
        (b'{"type":["welcome"],"protocol":1}', "unknown-type"),
        (b'{"type":"farewell"}', "unknown-type"),
        (b'{"type":"welcome"}', "shape"),
        (b'{"type":"welcome","protocol":1,"more":1}', "shape"),
        (b'{"type":"welcome","protocol":true}', "shape"),
        (b'{"type":"welcome","protocol":1.0}', "shape"),
        (b'{"type":"welcome","protocol":"1"}', "shape"),
        (b'{"type":"welcome","protocol":null}', "shape"),
        (b'{"type":"beat","loop":-1}', "shape"),
        (b'{"type":"beat","loop":9223372036854775808}', "shape"),
        (b'{"type":"beat","loop":1e999}', "shape"),
        (b'{"type":"beat","dead":"p2pd"}', "shape"),
        (b'{"type":"beat","dead":[1]}', "shape"),
        (b'{"type":"state","phase":"dreaming"}', "shape"),
        (b'{"type":"usage","inference":[],"forward":{},"backward":{}}', "shape"),
        (b'{"type":"refused","code":"\\ud800","message":""}', "shape"),
    ],
)
def test_what_is_wrong_with_a_frame_is_told_by_its_code(body: bytes, fault: str) -> None:
    assert fault_of(body) == fault


def test_an_oversized_frame_is_refused_by_its_length_alone() -> None:
    with pytest.raises(FrameError) as caught:
        Decoder().feed(struct.pack(">I", MAX_FRAME + 1))
    assert caught.value.code == "oversized"


def test_after_an_error_the_decoder_takes_nothing_more() -> None:
    decoder = Decoder()
    with pytest.raises(FrameError):
        decoder.feed(frame(b"?"))
    with pytest.raises(FrameError):
        decoder.feed(encode(Welcome(1)))


def test_fields_with_a_default_may_be_missing() -> None:
    assert Decoder().feed(frame(b'{"type":"state","phase":"online"}')) == [State(Phase.ONLINE)]
    counters = b'{"type":"usage","inference":{},"forward":{},"backward":{"steps":1}}'
    [usage] = Decoder().feed(frame(counters))
    assert isinstance(usage, Usage)
    assert usage.backward.steps == 1


def test_the_frame_of_a_hello_is_what_the_protocol_document_shows() -> None:
    hello = Hello(protocol=1, incarnation="3f2a", role=Role.HANDLER, index=2, pid=4711)
    body = b'{"type":"hello","protocol":1,"incarnation":"3f2a","role":"handler","index":2,"pid":4711}'
    assert encode(hello) == b"\x00\x00\x00\x58" + body


def test_a_message_that_no_frame_can_hold_is_not_encoded() -> None:
    with pytest.raises(FrameError) as caught:
        encode(Failure("x", "m" * MAX_FRAME, "", permanent=False))
    assert caught.value.code == "oversized"


def test_text_that_is_not_unicode_is_not_encoded() -> None:
    with pytest.raises(FrameError):
        encode(Failure("x", "\udcff", "", permanent=False))
