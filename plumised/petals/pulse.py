"""Beats of the main process: proof that the runtime thread, the DHT process and p2pd answer, about once a second."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from plumised.ipc.messages import Beat
from plumised.petals.memory import IdleRelease

if TYPE_CHECKING:
    from collections.abc import Callable

    from hivemind import DHT
    from petals.server.server import ModuleContainer

    from plumised.petals.progress_counter import RuntimeProgress

_INTERVAL_S: Final = 1.0
_P2PD_TIMEOUT_S: Final = 3.0


class P2pdAnswer(StrEnum):
    """What came of asking p2pd over its control socket."""

    ANSWERED = "answered"
    SILENT = "silent"
    LOST = "lost"


async def ask_p2pd(dht: DHT, node: Any) -> P2pdAnswer:
    """Runs in the DHT process, so that its event loop is shown to turn: one round trip to p2pd."""
    del dht
    try:
        await asyncio.wait_for(node.p2p.list_peers(), _P2PD_TIMEOUT_S)
    except TimeoutError:
        return P2pdAnswer.SILENT
    except (OSError, EOFError):
        return P2pdAnswer.LOST
    return P2pdAnswer.ANSWERED


@dataclass(frozen=True, slots=True)
class _Question:
    answer: Any  # an MPFuture, which publishes no types


class Pulse(threading.Thread):
    """Sends beats until `stop`.

    Args:
        publish: takes each beat.
        progress: what the runtime thread did.
    """

    def __init__(self, publish: Callable[[Beat], None], progress: RuntimeProgress) -> None:
        super().__init__(name="plumised-pulse", daemon=True)
        self._publish = publish
        self._progress = progress
        self._stopped = threading.Event()
        self._dht: DHT | None = None
        self._dht_lock = threading.Lock()
        self._container: ModuleContainer | None = None
        self._asked_runtime = progress.probes
        self._question: _Question | None = None
        self._beat_number = self._dht_answers = self._p2pd_answers = 0
        self._p2pd_lost = False
        self._idle = IdleRelease()

    def watch_dht(self, dht: DHT | None) -> None:
        """From here on include the DHT process and p2pd; None once they are to end, with no question under way."""
        with self._dht_lock:
            self._dht = dht
            self._question = None
            self._p2pd_lost = False

    def watch_container(self, container: ModuleContainer | None) -> None:
        """From here on include these handlers and this runtime; None while there are none."""
        self._container = container

    def stop(self) -> None:
        """No more beats."""
        self._stopped.set()

    def run(self) -> None:
        """See the class."""
        while not self._stopped.is_set():
            self._publish(self._beat())
            self._idle.beat(self._progress.blocks)
            self._stopped.wait(_INTERVAL_S)

    def _beat(self) -> Beat:
        self._beat_number += 1
        dead = []
        if (container := self._container) is not None:
            dead += self._ask_runtime(container)
        with self._dht_lock:
            if self._dht is not None:
                dead += self._ask_dht(self._dht)
        return Beat(
            loop=self._beat_number,
            runtime=self._progress.probes,
            blocks=self._progress.blocks,
            dht=self._dht_answers,
            p2pd=self._p2pd_answers,
            dead=tuple(dead),
        )

    def _ask_runtime(self, container: ModuleContainer) -> list[str]:
        if self._asked_runtime <= self._progress.probes:
            self._asked_runtime = self._progress.probes + 1
            container.runtime.probe.ask()
        dead = [f"handler-{index}" for index, handler in enumerate(container.conn_handlers) if not handler.is_alive()]
        if not container.is_alive() or not all(pool.is_alive() for pool in container.runtime.pools):
            dead.append("runtime")
        announcer = container.dht_announcer
        # It ends by itself once it has announced that this server goes offline.
        if not announcer.is_alive() and announcer.server_info.state.name != "OFFLINE":
            dead.append("announcer")
        return dead

    def _ask_dht(self, dht: DHT) -> list[str]:
        if not dht.is_alive():
            return ["dht"]
        if self._question is not None and self._question.answer.done():
            self._dht_answers += 1
            answer = self._question.answer.result()
            self._p2pd_answers += answer is P2pdAnswer.ANSWERED
            self._p2pd_lost = answer is P2pdAnswer.LOST
            self._question = None
        if self._question is None:
            self._question = _Question(dht.run_coroutine(ask_p2pd, return_future=True))
        return ["p2pd"] if self._p2pd_lost else []
