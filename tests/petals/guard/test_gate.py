"""Who gets in, and who has to leave for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from plumised.petals.guard.gate import Gate
from plumised.petals.guard.limits import limits_of
from plumised.petals.guard.refusal import Refusal
from tests.petals.waiting import DEADLINE_S

LIMITS = replace(
    limits_of(64, 2048),
    requests=4,
    peer_requests=2,
    buffered_bytes=100,
    peer_buffered_bytes=60,
    room_s=0.05,
    grace_s=10.0,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gate(clock: Clock) -> Gate:
    return Gate(LIMITS, clock)


async def test_a_peer_has_so_many_places_and_others_have_theirs(gate: Gate) -> None:
    gate.enter(b"a")
    gate.enter(b"a")
    with pytest.raises(Refusal, match="you have 2 requests"):
        gate.enter(b"a")
    gate.enter(b"b")


async def test_a_place_that_was_left_is_free(gate: Gate) -> None:
    place = gate.enter(b"a")
    gate.enter(b"a")
    place.leave()
    place.leave()
    gate.enter(b"a")
    assert len(gate) == 2


async def test_where_all_are_taken_the_one_that_is_idle_for_longest_leaves(gate: Gate, clock: Clock) -> None:
    first, second = gate.enter(b"a"), gate.enter(b"b")
    clock.now += 1
    third, fourth = gate.enter(b"c"), gate.enter(b"d")
    first.works()
    clock.now += LIMITS.grace_s

    gate.enter(b"e")

    assert [place.leaving for place in (first, second, third, fourth)] == [False, True, False, False]


async def test_nobody_leaves_who_is_served_or_was_idle_for_a_moment(gate: Gate, clock: Clock) -> None:
    for peer in (b"a", b"b", b"c"):
        gate.enter(peer).works()
    gate.enter(b"d")
    clock.now += LIMITS.grace_s - 0.1
    with pytest.raises(Refusal, match="there are 4 requests"):
        gate.enter(b"e")


async def test_a_place_is_idle_from_when_it_waits(gate: Gate, clock: Clock) -> None:
    place = gate.enter(b"a")
    place.works()
    clock.now += 100
    assert place.idle_s == 0
    place.waits()
    clock.now += 3
    assert place.idle_s == 3


async def test_bytes_of_a_peer_are_limited_and_given_back(gate: Gate) -> None:
    place = gate.enter(b"a")
    await place.bring(60)
    with pytest.raises(Refusal, match="too many bytes"):
        place.bring_now(1)
    with pytest.raises(Refusal, match="too many bytes"):
        await place.bring(1)
    place.use_up(60)
    await place.bring(60)
    place.leave()
    gate.enter(b"a").bring_now(60)


async def test_bytes_of_all_are_limited(gate: Gate) -> None:
    gate.enter(b"a").bring_now(60)
    other = gate.enter(b"b")
    other.bring_now(40)
    with pytest.raises(Refusal, match="too many bytes"):
        other.bring_now(1)


async def test_who_waits_for_room_has_it_when_another_gives_it_back(clock: Clock) -> None:
    gate = Gate(replace(LIMITS, room_s=DEADLINE_S), clock)
    place = gate.enter(b"a")
    place.bring_now(60)
    waiting = asyncio.ensure_future(gate.enter(b"a").bring(60))
    await asyncio.sleep(0)
    assert not waiting.done()
    place.leave()
    await asyncio.wait_for(waiting, DEADLINE_S)


async def test_cache_is_taken_from_those_that_are_idle_for_longest(gate: Gate, clock: Clock) -> None:
    places = [gate.enter(peer) for peer in (b"a", b"b", b"c")]
    for number, place in enumerate(places):
        place.cache_bytes = 10
        clock.now += number
        place.waits()
    clock.now += LIMITS.grace_s
    asking = gate.enter(b"d")
    asked = asyncio.ensure_future(gate.make_cache_room(15, asking))
    await asyncio.sleep(0)
    assert [place.leaving for place in places] == [True, True, False]
    for place in places[:2]:
        place.leave()
    assert await asyncio.wait_for(asked, DEADLINE_S)


async def test_nobody_leaves_where_that_would_not_do(gate: Gate, clock: Clock) -> None:
    place = gate.enter(b"a")
    place.cache_bytes = 10
    clock.now += LIMITS.grace_s
    assert not await gate.make_cache_room(11, None)
    assert not place.leaving


async def test_who_waits_for_its_peer_ends_when_it_is_told_to_leave(gate: Gate) -> None:
    place = gate.enter(b"a")

    async def wait() -> None:
        async with place.waiting(None):
            await asyncio.Event().wait()

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    place.tell_to_leave()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, DEADLINE_S)
    with pytest.raises(TimeoutError):
        await wait()
