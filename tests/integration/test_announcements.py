"""The node tells the Oracle where it is: once it serves, again until that is taken, and only where it is wanted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from plumised.daemon.announcing import FIRST_PAUSE_S, Announcements, endpoint_of, wanted
from plumised.oracle import Announcer, OracleClient
from tests.devnet.oracle import Fault, OracleConfig
from tests.integration.reporting import AGENT, SIGNER, scene

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.reporting import Scene

ENDPOINT = "http://203.0.113.7:31331"


def announcements(here: Scene, endpoint: str | None = ENDPOINT) -> Announcements:
    announcer = Announcer(
        client=OracleClient(here.oracle.url, timeout_s=10.0),
        signer=SIGNER,
        ledger=here.node.ledger,
        clock=time.time,
        monotonic=time.monotonic,
    )
    return Announcements(announcer, "bigscience/bloom-560m", lambda: endpoint)


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


async def test_it_waits_until_the_engine_serves_and_goes_on_until_it_is_taken(tmp_path: Path) -> None:
    async with scene(tmp_path, config=OracleConfig()) as here:
        await here.oracle.control.switch_on(Fault(kind="status", on="register", status=503, count=2))
        asked = 0
        pauses: list[float] = []

        def serving() -> bool:
            nonlocal asked
            asked += 1
            return asked > 2

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)

        await announcements(here).announce_once_serving(serving, lambda: 0.5, sleep)
        taken = await here.oracle.control.registrations(AGENT)
        assert [registration.endpoint for registration in taken] == [ENDPOINT]
        assert pauses[2:] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]
