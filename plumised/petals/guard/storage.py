"""What strangers may leave in this node's part of the DHT: so much in all, for so long, so many keys at a time."""

from __future__ import annotations

import heapq
import math
import time
from typing import TYPE_CHECKING, Any, Final

from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.storage import DHTLocalStorage, DictionaryDHTValue
from hivemind.p2p import P2PContext  # noqa: TC002 -- hivemind reads the annotations of every rpc_ method
from hivemind.proto import dht_pb2  # noqa: TC002 -- see above
from typing_extensions import override

from plumised.petals.guard.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_BYTES: Final = 64 * 2**20
_ENTRY_BYTES: Final = 512
"""What an entry takes beside its key and value, more or less."""
_LONGEST_S: Final = 86_400.0
"""Petals' servers renew their entries every minute or so."""
MOST_KEYS: Final = 2048
"""Of one request. A server asks for its model's blocks, one key each."""
_MEASURE_EVERY_S: Final = 5.0
_MOST_GHOSTS: Final = 1024


class BoundedStorage(DHTLocalStorage):
    """hivemind's storage, which takes no more than 64 MiB. What is over that is refused until other entries expire."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bytes = 0
        self._measured = -math.inf

    @override
    def store(self, key: Any, value: Any, expiration_time: float, subkey: Any = None) -> bool:
        return (
            _is_soon(expiration_time)
            and self._has_room(value, subkey)
            and super().store(key, value, expiration_time, subkey)
        )

    @override
    def store_subkey(self, key: Any, subkey: Any, value: Any, expiration_time: float) -> bool:
        return (
            _is_soon(expiration_time)
            and self._has_room(value, subkey)
            and super().store_subkey(key, subkey, value, expiration_time)
        )

    def _has_room(self, value: Any, subkey: Any) -> bool:
        size = _size(value) + _size(subkey)
        if self._bytes + size > MOST_BYTES and time.monotonic() - self._measured >= _MEASURE_EVERY_S:
            # Entries that expired are still counted in.
            self._bytes = sum(_size(item.value) for _, item in self.items())
            self._measured = time.monotonic()
        if self._bytes + size > MOST_BYTES:
            return False
        self._bytes += size
        return True


def _is_soon(expiration_time: float) -> bool:
    """Whether an entry may last that long; what is no number may not."""
    return expiration_time <= time.time() + _LONGEST_S


def _size(value: Any) -> int:
    if isinstance(value, DictionaryDHTValue):
        return sum(_size(subkey) + _size(item.value) for subkey, item in value.items()) + _ENTRY_BYTES
    return len(value) + _ENTRY_BYTES if isinstance(value, bytes | str) else _ENTRY_BYTES


def bounded_store(store: Callable[..., bool]) -> Callable[..., bool]:
    """In the place of `TimedStorage.store`.

    Upstream's remembers the expiration of every attempt for as long as that lasts, and lets an older one that it
    refuses end the entry that it keeps.
    """

    def bounded(storage: Any, key: Any, value: Any, expiration_time: float) -> bool:
        known = storage.data.get(key)
        if known is not None and not known.expiration_time < expiration_time:
            return False
        stored = store(storage, key, value, expiration_time)
        if len(storage.expiration_heap) > 2 * len(storage.data) + _MOST_GHOSTS:
            storage.expiration_heap[:] = storage.key_to_heap.values()
            heapq.heapify(storage.expiration_heap)
        return stored

    return bounded


def bounded_find() -> Callable[..., Any]:
    """In the place of `DHTProtocol.rpc_find`: upstream searches its table for as many keys as 4 MB hold."""
    upstream = DHTProtocol.rpc_find

    async def rpc_find(self: Any, request: dht_pb2.FindRequest, context: P2PContext) -> dht_pb2.FindResponse:
        _check_keys(request)
        return await upstream(self, request, context)

    return rpc_find


def bounded_store_request() -> Callable[..., Any]:
    """In the place of `DHTProtocol.rpc_store`: the same of what is to be stored."""
    upstream = DHTProtocol.rpc_store

    async def rpc_store(self: Any, request: dht_pb2.StoreRequest, context: P2PContext) -> dht_pb2.StoreResponse:
        _check_keys(request)
        return await upstream(self, request, context)

    return rpc_store


def _check_keys(request: Any) -> None:
    if len(request.keys) > MOST_KEYS:
        raise Refusal(f"{len(request.keys)} keys where {MOST_KEYS} are the most")
