from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from plumised.observe.notify import STATUS_LENGTH, Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Manager:
    """A service manager's socket."""

    def __init__(self, path: Path | str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.bind(str(path))
        self.address = str(path).replace("\0", "@")

    def heard(self) -> list[str]:
        return self.socket.recv(65536).decode("utf-8").split("\n")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.socket.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    made = Notifier(manager.address, "20000000")
    yield made
    made.close()


def test_ready_is_told_with_a_status(manager: Manager, notifier: Notifier) -> None:
    assert notifier.ready("Starting the engine")

    assert manager.heard() == ["READY=1", "STATUS=Starting the engine"]


def test_each_message_has_its_own_words(manager: Manager, notifier: Notifier) -> None:
    assert notifier.status("Serving")
    assert notifier.watchdog()
    assert notifier.stopping()
    assert notifier.reloading(1234)

    assert [manager.heard() for _ in range(4)] == [
        ["STATUS=Serving"],
        ["WATCHDOG=1"],
        ["STOPPING=1"],
        ["RELOADING=1", "MONOTONIC_USEC=1234"],
    ]


def test_a_status_is_one_bounded_line_in_utf_8(manager: Manager, notifier: Notifier) -> None:
    notifier.status("ein\nblöck … READY=1" + "x" * 1000)

    (line,) = manager.heard()
    assert line.startswith("STATUS=ein blöck … READY=1xxx")
    assert len(line) == len("STATUS=") + STATUS_LENGTH


def test_an_abstract_address_is_taken() -> None:
    manager = Manager("\0plumised-test-notify")
    notifier = Notifier(manager.address)
    try:
        assert notifier.ready()
        assert manager.heard() == ["READY=1"]
    finally:
        notifier.close()
        manager.socket.close()


@pytest.mark.parametrize("address", [None, "", "relative", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    notifier = Notifier(address, "20000000")

    assert not notifier.connected
    assert not notifier.ready("x")
    assert notifier.watchdog_interval_s is None


def test_a_manager_that_went_away_is_no_error(manager: Manager, notifier: Notifier) -> None:
    manager.socket.close()

    assert not notifier.watchdog()


def test_a_manager_that_does_not_read_loses_messages_and_holds_nobody_up(notifier: Notifier) -> None:
    taken = 0
    while notifier.status("x" * 500):
        taken += 1
        assert taken < 100_000


@pytest.mark.parametrize(("usec", "interval"), [("20000000", 10.0), ("0", None), ("", None), (None, None), ("x", None)])
def test_signs_of_life_come_twice_as_often_as_needed(
    manager: Manager, usec: str | None, interval: float | None
) -> None:
    notifier = Notifier(manager.address, usec)

    assert notifier.watchdog_interval_s == interval
    notifier.close()


async def test_signs_of_life_go_on_until_cancelled(manager: Manager, notifier: Notifier) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await notifier.keep_watchdog(sleep)

    assert slept == [10.0] * 3
    assert [manager.heard() for _ in range(3)] == [["WATCHDOG=1"]] * 3


async def test_no_signs_of_life_where_none_are_wanted(manager: Manager) -> None:
    notifier = Notifier(manager.address)

    await notifier.keep_watchdog()

    notifier.close()


def test_a_stop_asks_for_the_time_that_it_may_take(manager: Manager, notifier: Notifier) -> None:
    assert notifier.stopping("Stopping", within_s=160)

    assert manager.heard() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=160000000", "STATUS=Stopping"]
