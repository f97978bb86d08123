"""Beats over the life of a real DHT process: watched, then left alone to end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hivemind import DHT

from plumised.petals.progress_counter import RuntimeProgress
from plumised.petals.pulse import Pulse
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plumised.ipc.messages import Beat


class Listener:
    """Takes beats."""

    def __init__(self) -> None:
        self.beats: list[Beat] = []

    def take(self, beat: Beat) -> None:
        self.beats.append(beat)

    def after(self, number: int) -> Beat:
        """A beat that was made entirely after `number` of them."""
        eventually(lambda: len(self.beats) > number + 1, "beats go on")
        return self.beats[-1]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def pulse(listener: Listener) -> Iterator[Pulse]:
    pulse = Pulse(listener.take, RuntimeProgress())
    pulse.start()
    yield pulse
    pulse.stop()
    pulse.join(timeout=30)
    assert not pulse.is_alive()


@pytest.fixture
def accidents(monkeypatch: pytest.MonkeyPatch) -> list[threading.ExceptHookArgs]:
    """What ended a thread."""
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    return seen


def test_a_dht_that_is_to_end_is_asked_nothing_and_not_missed(
    listener: Listener, pulse: Pulse, accidents: list[threading.ExceptHookArgs]
) -> None:
    dht = DHT(host_maddrs=["/ip4/127.0.0.1/tcp/0"], start=True)
    pulse.watch_dht(dht)
    eventually(lambda: listener.beats and listener.beats[-1].p2pd, "p2pd has answered")
    pulse.watch_dht(None)
    dht.shutdown()
    seen = listener.beats[-1]
    beat = listener.after(len(listener.beats))
    assert beat.dead == ()
    assert beat.dht == listener.after(len(listener.beats)).dht
    assert beat.loop > seen.loop
    assert not accidents
