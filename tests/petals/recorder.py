"""The daemon's end of the socket, as far as it takes to hear everything that an engine says."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from plumised.ipc.codec import Decoder, encode
from plumised.ipc.messages import PROTOCOL, Beat, Failure, Hello, Message, Phase, Refused, Role, State, Usage, Welcome
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


@dataclass(frozen=True)
class Gone:
    """A process has closed its connection."""


@dataclass(frozen=True)
class Heard:
    """One thing that came over the socket."""

    sender: Hello
    message: Message | Gone


class Recorder:
    """Listens, welcomes every process, and keeps what they say.

    Args:
        path: of the socket.
        refusal: what to answer instead of a welcome.
    """

    def __init__(self, path: Path, *, refusal: Refused | None = None) -> None:
        self.path = path
        self._refusal = refusal
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        self._listening: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self) -> None:
        """Listen."""
        self._listening = listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self.path))
        listening.listen(32)
        self._start(self._accept, listening)

    def close(self) -> None:
        """Stop listening and close every connection, as a daemon that ends."""
        with self._changed:
            listening, self._listening = self._listening, None
            connections = list(self._connections)
        if listening is None:
            return
        self.path.unlink()
        for connection in (listening, *connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        listening.close()

    def _start(self, target: Callable[[socket.socket], None], connection: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(connection,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with self._changed:
                if self._listening is not listening:
                    connection.close()
                    return
                self._connections.add(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        decoder = Decoder()
        sender: Hello | None = None
        try:
            while data := connection.recv(65536):
                for message in decoder.feed(data):
                    if sender is None:
                        assert isinstance(message, Hello)
                        sender = message
                        connection.sendall(encode(self._refusal or Welcome(PROTOCOL)))
                    self._keep(Heard(sender, message))
        except OSError:
            pass
        finally:
            with self._changed:
                self._connections.discard(connection)
            connection.close()
            if sender is not None:
                self._keep(Heard(sender, Gone()))

    def _keep(self, heard: Heard) -> None:
        with self._changed:
            self._heard.append(heard)
            self._changed.notify_all()

    def wait(
        self, probe: Callable[[], T | None], what: str, *, alive: Callable[[], None], deadline_s: float = DEADLINE_S
    ) -> T:
        """What `probe` returns, as soon as that is neither None nor false; it is asked after everything that is heard.

        Args:
            probe: may ask this recorder.
            what: is waited for.
            alive: raises when there is nothing to wait for any more.
            deadline_s: when it counts as broken.
        """
        until = time.monotonic() + deadline_s
        with self._changed:
            while not (value := probe()):
                alive()
                if time.monotonic() >= until:
                    last = "\n".join(str(heard) for heard in self._heard[-12:])
                    raise AssertionError(f"not within {deadline_s:.0f} s: {what}; last heard:\n{last}")
                self._changed.wait(0.2)
        return value

    def __len__(self) -> int:
        with self._changed:
            return len(self._heard)

    def heard(self, since: int = 0) -> list[Heard]:
        """Everything, or what came after the first `since` things."""
        with self._changed:
            return self._heard[since:]

    def hellos(self, since: int = 0) -> list[Hello]:
        """Who has said hello, in order."""
        return [heard.message for heard in self.heard(since) if isinstance(heard.message, Hello)]

    def states(self, since: int = 0) -> list[State]:
        """The main process's states, in order."""
        return [heard.message for heard in self.heard(since) if isinstance(heard.message, State)]

    def phases(self, since: int = 0) -> list[Phase]:
        """The phases that the main process went through, each once where it came several times in a row."""
        phases = [state.phase for state in self.states(since)]
        return [phase for index, phase in enumerate(phases) if phases[index - 1 : index] != [phase]]

    def failures(self) -> list[Failure]:
        """Why the engine says it ended."""
        return [heard.message for heard in self.heard() if isinstance(heard.message, Failure)]

    def beats(self, role: Role, since: int = 0, index: int = 0) -> list[Beat]:
        """The beats of one process, in order."""
        return [
            heard.message
            for heard in self.heard(since)
            if isinstance(heard.message, Beat) and (heard.sender.role, heard.sender.index) == (role, index)
        ]

    def usages(self, since: int = 0) -> dict[Hello, Usage]:
        """The last counters of every handler."""
        return {heard.sender: heard.message for heard in self.heard(since) if isinstance(heard.message, Usage)}

    def gone(self, since: int = 0) -> set[Hello]:
        """Who has closed a connection."""
        return {heard.sender for heard in self.heard(since) if isinstance(heard.message, Gone)}
