"""The engine's end of the socket: a thread that keeps the daemon informed, beside whatever the process does.

Only the latest message of each type is kept. Everything that counts is cumulative, so that loses nothing, needs no
queue, and makes a reconnection simple: the latest of everything is sent again.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import threading
import time
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plumised.ipc.codec import Decoder, FrameError, encode
from plumised.ipc.messages import Beat, Failure, Hello, Message, Refused, Sandbox, State, Usage, Welcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Outgoing = Usage | Sandbox | State | Beat | Failure

_ORDER: Final = (Usage, Sandbox, State, Beat, Failure)
_URGENT: Final = (Sandbox, State, Failure)
_LONGEST_TEXT: Final = 4096
"""Characters of a failure's text; two of them in their longest encoding fit into a frame."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how patiently a channel works.

    Attributes:
        interval_s: least time between two sends of usage and beats; the others go at once.
        reply_timeout_s: how long the daemon may take to take the connection and to answer the hello.
        send_timeout_s: how long the daemon may leave the socket full.
        first_retry_s: about how long to wait before the first reconnection; doubles with each failure.
        longest_retry_s: where the doubling ends.
    """

    interval_s: float = 0.1
    reply_timeout_s: float = 5.0
    send_timeout_s: float = 5.0
    first_retry_s: float = 0.1
    longest_retry_s: float = 5.0


class _RefusedError(Exception):
    def __init__(self, refusal: Refused) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class _ClosingError(Exception):
    """The channel's time is over."""


class Channel:
    """A connection to the daemon that comes back by itself. Belongs to the process that made it.

    A child of a fork cannot use it, and does not keep its socket open either: the daemon takes the end of a
    connection for the end of the process.

    Args:
        path: of the daemon's socket.
        hello: says who this is.
        on_refused: called from the channel's thread when the daemon refuses; the channel does not try again.
        pace: how often and how patiently.
        clock: monotonic seconds.
        jitter: gives numbers from 0 to 1.
    """

    def __init__(
        self,
        path: Path,
        hello: Hello,
        *,
        on_refused: Callable[[Refused], None] | None = None,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._path = path
        self._hello = encode(hello)
        self._on_refused = on_refused
        self._pace = pace or Pace()
        self._clock = clock
        self._jitter = jitter
        self._process = os.getpid()
        # Reentrant: a signal handler may publish in the middle of a publish of the same thread.
        self._lock = threading.RLock()
        self._latest: dict[type[Outgoing], Outgoing] = {}
        self._unsent: set[type[Outgoing]] = set()
        self._closing_at: float | None = None
        self._refusal: Refused | None = None
        self._thread = threading.Thread(target=self._run, name="plumised-channel", daemon=True)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._socket: socket.socket | None = None
        _channels.add(self)

    @property
    def refusal(self) -> Refused | None:
        """Why the daemon refused, if it did."""
        return self._refusal

    def start(self) -> None:
        """Start to connect. Once only."""
        self._thread.start()

    def publish(self, message: Outgoing) -> None:
        """Make this the latest message of its type, to be sent soon; returns at once. Texts that are too long are cut.

        Raises:
            FrameError: a state that no frame can hold.
            RuntimeError: this process inherited the channel in a fork.
        """
        if os.getpid() != self._process:
            raise RuntimeError(f"this channel belongs to process {self._process}")
        if isinstance(message, Failure):
            message = replace(message, message=_printable(message.message), remedy=_printable(message.remedy))
        urgent = isinstance(message, _URGENT)
        if urgent:
            encode(message)
        kind = type(message)
        with self._lock:
            if kind is not Beat and self._latest.get(kind) == message:
                return
            wake = urgent or not self._unsent
            self._latest[kind] = message
            self._unsent.add(kind)
        if wake:
            self._wake()

    def close(self, timeout: float) -> bool:
        """Send what is unsent, for `timeout` seconds at most, and end. Tells whether everything was sent."""
        self._closing_at = self._clock() + timeout
        if self._thread.ident is None:
            self._release()
        else:
            self._wake()
            self._thread.join(timeout)
        return not self._unsent and not self._thread.is_alive()

    def _wake(self) -> None:
        with self._lock:
            if self._wake_write >= 0:
                # A full pipe is enough to wake up to.
                with contextlib.suppress(BlockingIOError):
                    os.write(self._wake_write, b"\0")

    def _run(self) -> None:
        failures = 0
        try:
            while True:
                last_attempt = self._closing_at is not None
                try:
                    connection = self._connect()
                    failures = 0
                    self._converse(connection)
                except (OSError, FrameError):
                    failures += 1
                finally:
                    self._disconnect()
                if last_attempt:
                    return
                self._pause(failures)
        except _ClosingError:
            return
        except _RefusedError as error:
            self._refusal = error.refusal
            if self._on_refused is not None:
                self._on_refused(error.refusal)
        finally:
            self._release()

    def _connect(self) -> socket.socket:
        self._socket = connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        # A full backlog answers EAGAIN, which is an OSError like every other reason to try again.
        connection.connect(str(self._path))
        self._send(connection, self._hello)
        deadline = self._clock() + self._pace.reply_timeout_s
        decoder = Decoder()
        while True:
            if not self._wait(connection, select.POLLIN, deadline):
                if self._clock() >= deadline:
                    raise TimeoutError("the daemon does not answer")
                continue
            for message in decoder.feed(_receive(connection)):
                if isinstance(message, Refused):
                    raise _RefusedError(message)
                if isinstance(message, Welcome):
                    with self._lock:
                        self._unsent = set(self._latest)
                    return connection
                raise FrameError("unknown-type", "the daemon answered the hello with something else")

    def _converse(self, connection: socket.socket) -> None:
        decoder = Decoder()
        next_send = self._clock()
        while True:
            closing = self._closing_at is not None
            everything = closing or self._clock() >= next_send
            batch = self._due(everything=everything)
            for message in batch:
                self._send(connection, encode(message))
                self._sent(message)
            if closing and not self._unsent:
                raise _ClosingError
            if everything and batch:
                next_send = self._clock() + self._pace.interval_s
            if self._wait(connection, select.POLLIN, next_send if self._unsent else None):
                _refuse_chatter(decoder.feed(_receive(connection)))

    def _due(self, *, everything: bool) -> list[Outgoing]:
        with self._lock:
            kinds = [kind for kind in _ORDER if kind in self._unsent and (everything or kind in _URGENT)]
            return [self._latest[kind] for kind in kinds]

    def _sent(self, message: Outgoing) -> None:
        with self._lock:
            if self._latest[type(message)] is message:
                self._unsent.discard(type(message))

    def _send(self, connection: socket.socket, frame: bytes) -> None:
        rest = memoryview(frame)
        deadline = self._clock() + self._pace.send_timeout_s
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except BlockingIOError:
                if not self._wait(connection, select.POLLOUT, deadline) and self._clock() >= deadline:
                    raise TimeoutError("the daemon does not read") from None

    def _pause(self, failures: int) -> None:
        longest = min(self._pace.first_retry_s * 2.0 ** min(failures, 30), self._pace.longest_retry_s)
        until = self._clock() + longest * (0.5 + 0.5 * self._jitter())
        while self._clock() < until and self._closing_at is None:
            self._wait(None, 0, until)

    def _wait(self, connection: socket.socket | None, events: int, until: float | None) -> bool:
        """Wait for the socket; False when the time is over or something else wants attention."""
        limits = [limit for limit in (until, self._closing_at) if limit is not None]
        if self._closing_at is not None and self._clock() >= self._closing_at:
            raise _ClosingError
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if connection is not None:
            poll.register(connection, events)
        remaining = max(0.0, min(limits) - self._clock()) * 1000 + 1 if limits else None
        ready = {descriptor for descriptor, _ in poll.poll(remaining)}
        if self._wake_read in ready:
            _drain(self._wake_read)
        return connection is not None and connection.fileno() in ready

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _release(self) -> None:
        with self._lock:
            if self._wake_write >= 0:
                os.close(self._wake_read)
                os.close(self._wake_write)
                self._wake_write = -1

    def _abandon(self) -> None:
        """In the child of a fork: drop what belongs to the parent. Takes no lock, the parent's threads are gone."""
        if self._socket is not None:
            self._socket.close()
        if self._wake_write >= 0:
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_write = -1


_channels: weakref.WeakSet[Channel] = weakref.WeakSet()


def _abandon_all() -> None:
    for channel in list(_channels):
        channel._abandon()  # noqa: SLF001 -- a function of this module that serves this class only


os.register_at_fork(after_in_child=_abandon_all)


def _receive(connection: socket.socket) -> bytes:
    try:
        data = connection.recv(65536)
    except BlockingIOError:
        return b""
    if not data:
        raise ConnectionResetError("the daemon closed the connection")
    return data


def _refuse_chatter(messages: list[Message]) -> None:
    for message in messages:
        if isinstance(message, Refused):
            raise _RefusedError(message)
        raise FrameError("unknown-type", "after its welcome the daemon has nothing to say")


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            continue
    except BlockingIOError:
        return


def _printable(text: str) -> str:
    return text[:_LONGEST_TEXT].encode(errors="replace").decode()
