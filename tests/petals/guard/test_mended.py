"""What is mended in upstream: nesting, calls that end without a reply, the DHT's storage, and the log."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgpack
import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import PeerID
from hivemind.proto import p2pd_pb2
from hivemind.utils.serializer import MSGPackSerializer
from hivemind.utils.timed_storage import TimedStorage

from plumised.petals.guard import storage
from plumised.petals.guard.nesting import MOST, bounded_extensions
from plumised.petals.guard.quiet import Quiet
from plumised.petals.guard.refusal import Refusal
from plumised.petals.guard.storage import BoundedStorage, bounded_store
from plumised.petals.guard.unary import handle_persistent_request
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable


def nested(levels: int, code: int = 0x40) -> bytes:
    content = b"\xc0"
    for _ in range(levels):
        content = msgpack.packb(msgpack.ExtType(code, b"\x91" + content))
    return content


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MSGPackSerializer, "_decode_ext_types", bounded_extensions())
    monkeypatch.setattr(TimedStorage, "store", bounded_store(TimedStorage.store))


@pytest.mark.usefixtures("bounded")
def test_extensions_may_be_nested_so_deep_and_no_deeper() -> None:
    MSGPackSerializer.loads(nested(MOST))
    with pytest.raises(ValueError, match="levels of extensions"):
        MSGPackSerializer.loads(nested(MOST + 1))
    # What was refused does not count against what comes next.
    MSGPackSerializer.loads(nested(MOST))


@pytest.mark.usefixtures("bounded")
def test_what_petals_sends_is_read_as_before() -> None:
    content: dict[str, Any] = {"args_structure": ((b"__T0", (b"__T1",)), {}), "next_servers": [("a", "b", 0, 1)]}
    assert MSGPackSerializer.loads(MSGPackSerializer.dumps(content)) == content


class Calls:
    """As much of hivemind's client as its handling of calls touches."""

    persistent_conn_max_msg_size = 1000

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.unary_handlers = {"known": handler}
        self._handler_tasks: dict[Any, asyncio.Task[None]] = {}
        self._pending_messages: asyncio.Queue[Any] = asyncio.Queue()

    def begin(self, proto: str) -> asyncio.Task[None]:
        call = uuid4()
        request = SimpleNamespace(proto=proto, peer=PEER, data=b"")
        task = asyncio.create_task(handle_persistent_request(self, call, request))
        self._handler_tasks[call] = task
        return task

    async def answer(self, proto: str) -> Any:
        await asyncio.wait_for(self.begin(proto), DEADLINE_S)
        assert self._handler_tasks == {}
        message = self._pending_messages.get_nowait()
        assert isinstance(message, p2pd_pb2.PersistentConnectionRequest)
        return message.unaryResponse


PEER = PeerID.from_base58("QmUVY8eGewXUtWEZPpdkyYeFqgvNKLzWfUYAdMrJGt6nEa").to_bytes()


async def test_a_call_is_answered() -> None:
    async def handler(data: bytes, peer: PeerID) -> bytes:
        return data + bytes(peer.to_bytes())

    assert (await Calls(handler).answer("known")).response == PEER


async def test_a_call_that_fails_or_is_unknown_is_answered_in_few_words() -> None:
    async def handler(_data: bytes, _peer: PeerID) -> bytes:
        raise ValueError("x" * 10_000)

    calls = Calls(handler)
    assert len((await calls.answer("known")).error) <= 500
    assert b"KeyError" in (await calls.answer("unknown")).error


async def test_a_call_with_too_long_a_reply_is_answered() -> None:
    async def handler(_data: bytes, _peer: PeerID) -> bytes:
        return bytes(2000)

    assert (await Calls(handler).answer("known")).error == b"response size exceeds message size limit"


async def test_a_call_that_is_cancelled_is_forgotten() -> None:
    async def handler(_data: bytes, _peer: PeerID) -> bytes:
        await asyncio.Event().wait()
        return b""

    calls = Calls(handler)
    task = calls.begin("known")
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task}, timeout=DEADLINE_S)
    assert calls._handler_tasks == {}


def key(number: int) -> DHTID:
    return DHTID(number)


@pytest.mark.usefixtures("bounded")
def test_an_entry_that_is_stored_again_and_again_takes_room_once() -> None:
    stored, soon = BoundedStorage(), time.time() + 60
    for number in range(10_000):
        stored.store(key(1), b"x", soon + number / 1000)
    assert len(stored.expiration_heap) < 2000
    assert len(stored) == 1


@pytest.mark.usefixtures("bounded")
def test_an_older_entry_does_not_end_the_one_that_is_kept() -> None:
    stored, soon = BoundedStorage(), time.time() + 60
    assert stored.store(key(1), b"mine", soon)
    assert not stored.store(key(1), b"theirs", soon - 59)
    assert stored.key_to_heap[key(1)].expiration_time == soon


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("expiration", [float("nan"), float("inf"), 1e12])
@pytest.mark.parametrize("subkey", [None, "sub"])
def test_nothing_is_stored_for_ever(expiration: float, subkey: str | None) -> None:
    stored, soon = BoundedStorage(), time.time() + 60
    stored.store(key(1), b"mine", soon, subkey)
    assert not stored.store(key(1), b"theirs", expiration, subkey and "other")
    value = stored.get(key(1))
    assert value is not None
    if isinstance(value.value, DictionaryDHTValue):
        assert value.value.latest_expiration_time == soon


@pytest.mark.usefixtures("bounded")
def test_no_more_is_stored_than_fits_until_something_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "MOST_BYTES", 100_000)
    monkeypatch.setattr(storage, "_MEASURE_EVERY_S", 0.0)
    stored, soon = BoundedStorage(), time.time() + 60
    took = [stored.store(key(number), bytes(10_000), soon) for number in range(20)]
    assert 5 < sum(took) < 10
    assert took == sorted(took, reverse=True)
    del stored[key(0)]
    assert stored.store(key(100), bytes(10_000), soon)
    assert not stored.store_subkey(key(101), "sub", bytes(10_000), soon)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def record(line: int, error: BaseException | None = None, name: str = "hivemind.p2p") -> logging.LogRecord:
    told = None if error is None else (type(error), error, None)
    return logging.LogRecord(name, logging.WARNING, "p2p.py", line, "it failed: %s", ("so",), told)


def test_each_place_has_so_many_lines_a_minute_and_says_how_many_more_there_were() -> None:
    clock = Clock()
    quiet = Quiet(clock)
    assert sum(quiet.filter(record(1)) for _ in range(100)) == 20
    assert quiet.filter(record(2))
    clock.now = 60.0
    again = record(1)
    assert quiet.filter(again)
    assert again.getMessage() == "it failed: so (80 more of this kind were left out before)"


def test_a_refusal_is_a_line_without_a_traceback() -> None:
    told = record(1, Refusal("no such thing"))
    assert Quiet().filter(told)
    assert told.exc_info is None
    assert told.getMessage() == "it failed: so Refusal: no such thing"


def test_what_nobody_foresaw_keeps_its_traceback_a_few_times() -> None:
    quiet = Quiet()
    told = [record(1, ValueError("what")) for _ in range(10)]
    assert [quiet.filter(each) for each in told] == [True] * 3 + [False] * 7
    assert told[0].exc_info is not None


def test_our_own_lines_pass() -> None:
    quiet = Quiet()
    assert all(quiet.filter(record(1, name="plumised.petals")) for _ in range(100))
