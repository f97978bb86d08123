"""Who may come in, how much each may bring, and who has to leave when there is no room.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from plumised.petals.guard.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from plumised.petals.guard.limits import Limits

_LEFT_WITHIN_S: Final = 5.0
"""How long to wait for those that were told to leave."""


class Place:
    """One RPC of a peer, from its beginning until nothing of it is left. `Gate.enter` makes it.

    Attributes:
        peer: whose it is.
        cache_bytes: of attention cache that it has reserved.
    """

    def __init__(self, gate: Gate, peer: bytes, clock: Callable[[], float]) -> None:
        self.peer = peer
        self.cache_bytes = 0
        self._gate = gate
        self._clock = clock
        self._idle_since: float | None = clock()
        self._buffered = 0
        self._told_to_leave = False
        self._wait: asyncio.Timeout | None = None
        self._left = asyncio.Event()

    @property
    def idle_s(self) -> float:
        """Seconds for which it has waited for its peer; 0 while something is done for it."""
        return 0.0 if self._idle_since is None else self._clock() - self._idle_since

    @property
    def buffered(self) -> int:
        """Bytes that it has brought and not used up."""
        return self._buffered

    @property
    def leaving(self) -> bool:
        """Whether it was told to leave."""
        return self._told_to_leave

    @contextlib.asynccontextmanager
    async def waiting(self, timeout_s: float | None) -> AsyncIterator[None]:
        """What is awaited in the block ends with a TimeoutError after that time, and when it is told to leave."""
        if self._told_to_leave:
            raise TimeoutError
        async with asyncio.timeout(timeout_s) as wait:
            self._wait = wait
            try:
                yield
            finally:
                self._wait = None

    def works(self) -> None:
        """Something is done for it."""
        self._idle_since = None

    def waits(self) -> None:
        """It waits for its peer."""
        self._idle_since = self._clock()

    async def bring(self, size: int) -> None:
        """Take room for bytes that arrive; waits for it, within limits.

        Raises:
            Refusal: there was none.
        """
        await self._gate.buffer(self.peer, size)
        self._buffered += size

    def bring_now(self, size: int) -> None:
        """The same without waiting."""
        self._gate.buffer_now(self.peer, size)
        self._buffered += size

    def use_up(self, size: int) -> None:
        """Give room back."""
        self._buffered -= size
        self._gate.unbuffer(self.peer, size)

    def tell_to_leave(self) -> None:
        """Others need the room."""
        self._told_to_leave = True
        if self._wait is not None:
            self._wait.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """Nothing of it is left."""
        if self._left.is_set():
            return
        self.use_up(self._buffered)
        self._left.set()
        self._gate.left(self)

    async def left(self) -> None:
        """Return when nothing of it is left."""
        await self._left.wait()


class Gate:
    """The places of one handler process.

    Args:
        limits: of it.
        clock: monotonic seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        # In the order in which they came.
        self._places: dict[Place, None] = {}
        self._buffered: Counter[bytes] = Counter()
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self._places)

    def enter(self, peer: bytes) -> Place:
        """A place for one more RPC. Where all are taken, one that is idle for too long has to leave for it.

        Raises:
            Refusal: none is idle.
        """
        self._make_room((place for place in self._places if place.peer == peer), self._limits.peer_requests, "you have")
        self._make_room(self._places, self._limits.requests, "there are")
        place = Place(self, peer, self._clock)
        self._places[place] = None
        return place

    async def make_cache_room(self, size: int, without: Place | None) -> bool:
        """Have those leave that hold this much attention cache and are idle for longest; whether they have left.

        Args:
            size: bytes; none to be had where that is not above 0, since then it was another limit that was hit.
            without: whoever asks.
        """
        freed, victims = 0, []
        for place in sorted(self._idle(self._places), key=lambda each: -each.idle_s):
            if place is not without and place.cache_bytes and freed < size:
                victims.append(place)
                freed += place.cache_bytes
        if freed < size:
            return False
        for place in victims:
            place.tell_to_leave()
        try:
            async with asyncio.timeout(_LEFT_WITHIN_S):
                for place in victims:
                    await place.left()
        except TimeoutError:
            return False
        return True

    async def buffer(self, peer: bytes, size: int) -> None:
        """See `Place.bring`."""
        try:
            async with asyncio.timeout(self._limits.room_s):
                while not self._fits(peer, size):
                    self._have_leave(place for place in self._idle(self._places) if place.buffered)
                    await self._room_given_back()
        except TimeoutError:
            raise Refusal("too many bytes wait to be served") from None
        self._buffered[peer] += size

    def buffer_now(self, peer: bytes, size: int) -> None:
        """See `Place.bring_now`."""
        if not self._fits(peer, size):
            raise Refusal("too many bytes wait to be served")
        self._buffered[peer] += size

    def unbuffer(self, peer: bytes, size: int) -> None:
        """See `Place.use_up`."""
        self._buffered[peer] -= size
        if not self._buffered[peer]:
            del self._buffered[peer]
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def left(self, place: Place) -> None:
        """See `Place.leave`."""
        del self._places[place]

    def _make_room(self, places: Iterable[Place], most: int, whose: str) -> None:
        # Those that were told to leave are as good as gone: nothing waits for a stranger any more.
        staying = [place for place in places if not place.leaving]
        if len(staying) < most:
            return
        if not self._have_leave(self._idle(staying)):
            raise Refusal(f"{whose} {len(staying)} requests at a time here, which is the most")

    @staticmethod
    def _have_leave(idle: Iterable[Place]) -> bool:
        """Tell the one that is idle for longest to leave; whether there is one."""
        longest = max(idle, key=lambda place: place.idle_s, default=None)
        if longest is not None:
            longest.tell_to_leave()
        return longest is not None

    def _idle(self, places: Iterable[Place]) -> Iterable[Place]:
        return (place for place in places if not place.leaving and place.idle_s >= self._limits.grace_s)

    def _fits(self, peer: bytes, size: int) -> bool:
        return (
            self._buffered[peer] + size <= self._limits.peer_buffered_bytes
            and self._buffered.total() + size <= self._limits.buffered_bytes
        )

    async def _room_given_back(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
