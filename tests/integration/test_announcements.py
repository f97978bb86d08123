"""The node tells the Oracle where it is: once it serves, again until that is taken, and only where it is wanted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from plumised.daemon.announcing import FIRST_PAUSE_S, Announcements, endpoint_of, wanted
from plumised.oracle import Announcer, OracleClient
from tests.devnet.oracle import Fault, OracleConfig
from tests.integration.chain_world import eventually, running
from tests.integration.reporting import AGENT, SIGNER, scene

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.reporting import Scene

ENDPOINT = "http://203.0.113.7:31331"


MODEL = "bigscience/bloom-560m"
PATIENCE_S = 20.0


def announcer(here: Scene) -> Announcer:
    return Announcer(
        client=OracleClient(here.oracle.url, timeout_s=10.0),
        signer=SIGNER,
        ledger=here.node.ledger,
        clock=time.time,
        monotonic=time.monotonic,
    )


@pytest.mark.parametrize(
    ("registration", "endpoint", "expected"),
    [
        ("auto", ENDPOINT, True),
        ("auto", None, False),
        ("always", None, True),
        ("never", ENDPOINT, False),
    ],
)
def test_announcing_follows_the_configuration(registration: str, endpoint: str | None, expected: bool) -> None:
    assert wanted(registration, endpoint) is expected


def test_the_configured_endpoint_comes_before_the_engine_s_addresses() -> None:
    addresses = ["/ip6/::1/tcp/31330/p2p/QmPeer", "/ip4/192.0.2.1/tcp/31330/p2p/QmPeer"]
    assert endpoint_of(ENDPOINT, addresses) == ENDPOINT
    assert endpoint_of(None, addresses) == "http://192.0.2.1:31330"
    assert endpoint_of(None, []) is None


class Ticks:
    """A clock that the announcements' own waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


async def taken(here: Scene, count: int) -> list[str]:
    """The endpoints that the Oracle knows, once it has been told so often."""
    async with asyncio.timeout(PATIENCE_S):
        while len(found := await here.oracle.control.registrations(AGENT)) < count:
            await asyncio.sleep(0.01)
    return [each.endpoint for each in found]


async def test_it_waits_until_the_engine_serves_and_goes_on_until_it_is_taken(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        await here.oracle.control.switch_on(Fault(kind="status", on="register", status=503, count=2))
        ticks, serving_from = Ticks(), 7.0
        announcements = Announcements(announcer(here), MODEL, lambda: ENDPOINT, wanted=True)

        async with running(announcements.run(lambda: ticks.now >= serving_from, lambda: 0.5, ticks.clock, ticks.sleep)):
            assert await taken(here, 1) == [ENDPOINT]

        assert ticks.now >= serving_from + FIRST_PAUSE_S + 2 * FIRST_PAUSE_S


async def test_why_it_is_not_taken_is_told_with_the_next_try_until_it_is(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        await here.oracle.control.switch_on(Fault(kind="refuse", on="register", status=400, message="No such host"))
        announcements = Announcements(announcer(here), MODEL, lambda: ENDPOINT, wanted=True)
        assert announcements.trouble is None
        ticks = Ticks()
        async with running(
            announcements.run(lambda: True, lambda: 0.5, ticks.clock, ticks.sleep, wall=lambda: 1000.0 + ticks.now)
        ):
            trouble = await eventually(lambda: announcements.trouble, bool)
            assert trouble is not None
            assert trouble.code == "announcement-refused"
            assert "No such host" in trouble.message
            assert trouble.since is not None
            assert trouble.next_try_at is not None
            assert trouble.next_try_at >= trouble.since + FIRST_PAUSE_S
            await here.oracle.control.clear_faults()
            assert await taken(here, 1) == [ENDPOINT]
            await eventually(lambda: announcements.trouble, lambda trouble: trouble is None)


async def test_an_oracle_that_wants_to_be_left_alone_is(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        await here.oracle.control.switch_on(Fault(kind="refuse", on="register", status=429, retry_after="300", count=1))
        ticks = Ticks()
        announcements = Announcements(announcer(here), MODEL, lambda: ENDPOINT, wanted=True)
        async with running(announcements.run(lambda: True, lambda: 0.5, ticks.clock, ticks.sleep)):
            assert await taken(here, 1) == [ENDPOINT]
        assert ticks.now >= 300


async def test_what_is_adopted_is_announced_without_the_pause_after_a_failure(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        tried = asyncio.Event()

        def nothing_yet() -> None:
            tried.set()

        announcements = Announcements(announcer(here), MODEL, nothing_yet, wanted=True)
        async with running(announcements.run(lambda: True, lambda: 0.5)):
            async with asyncio.timeout(PATIENCE_S):
                await tried.wait()
            announcements.adopt(announcer(here), MODEL, lambda: ENDPOINT, wanted=True)
            assert await taken(here, 1) == [ENDPOINT]


async def test_what_is_not_wanted_is_not_announced(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        ticks = Ticks()
        announcements = Announcements(announcer(here), MODEL, lambda: ENDPOINT, wanted=False)
        async with running(announcements.run(lambda: True, lambda: 0.5, ticks.clock, ticks.sleep)):
            await eventually(ticks.clock, lambda now: now > FIRST_PAUSE_S)
        assert await here.oracle.control.registrations(AGENT) == []
