"""What systemd is told: sd_notify(3), through the sdnotify package."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import sdnotify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STATUS_LENGTH = 512
SEND_TIMEOUT_S = 0.5
USEC = 1_000_000


class _Connected(sdnotify.SystemdNotifier):  # type: ignore[misc]  # the package publishes no types
    """The package's notifier, connected to a given address instead of the environment's."""

    def __init__(self, address: str) -> None:
        self.debug = True
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.socket.settimeout(SEND_TIMEOUT_S)
        self.socket.connect(f"\0{address[1:]}" if address.startswith("@") else address)


class Notifier:
    """Tells the service manager what the daemon does; without one, everything here does nothing.

    A manager that does not take a message within half a second loses it; nothing here raises.

    Args:
        notify_socket: the value of NOTIFY_SOCKET.
        watchdog_usec: the value of WATCHDOG_USEC.
    """

    def __init__(self, notify_socket: str | None, watchdog_usec: str | None = None) -> None:
        self._connected: _Connected | None = None
        if notify_socket and notify_socket[0] in "/@":
            try:
                self._connected = _Connected(notify_socket)
            except OSError:
                self._connected = None
        usec = int(watchdog_usec) if watchdog_usec and watchdog_usec.isascii() and watchdog_usec.isdigit() else 0
        self.watchdog_interval_s: float | None = usec / USEC / 2 if usec and self._connected else None
        """Seconds between two signs of life, half of what the manager waits for one; None if it waits for none."""

    @property
    def connected(self) -> bool:
        """Whether there is a service manager to tell."""
        return self._connected is not None

    def ready(self, status: str = "") -> bool:
        """Say that the daemon works; whether it was taken."""
        return self._send("READY=1", status)

    def status(self, status: str) -> bool:
        """Say what `systemctl status` shows; whether it was taken."""
        return self._send("", status)

    def stopping(self, status: str = "", *, within_s: float = 0) -> bool:
        """Say that the daemon is about to end; whether it was taken.

        Args:
            status: what `systemctl status` shows.
            within_s: how long that may take, in seconds, where it is longer than the unit's TimeoutStopSec=.
        """
        extension = f"\nEXTEND_TIMEOUT_USEC={within_s * USEC:.0f}" if within_s else ""
        return self._send(f"STOPPING=1{extension}", status)

    def reloading(self, monotonic_us: int, status: str = "") -> bool:
        """Say that the configuration is read again; `ready` ends it. Whether it was taken.

        Args:
            monotonic_us: CLOCK_MONOTONIC at this moment, in microseconds.
            status: what `systemctl status` shows.
        """
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}", status)

    def watchdog(self) -> bool:
        """Give a sign of life; whether it was taken."""
        return self._send("WATCHDOG=1", "")

    async def keep_watchdog(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Give signs of life for as long as the event loop runs; returns at once if the manager waits for none."""
        while self.watchdog_interval_s is not None:
            self.watchdog()
            await sleep(self.watchdog_interval_s)

    def close(self) -> None:
        """Give the socket back; nothing is told any more."""
        if self._connected is not None:
            self._connected.socket.close()
            self._connected = None

    def _send(self, assignments: str, status: str) -> bool:
        if self._connected is None:
            return False
        line = " ".join(status.split())
        if line:
            cut = line if len(line) <= STATUS_LENGTH else f"{line[: STATUS_LENGTH - 1]}…"
            assignments = "\n".join(part for part in (assignments, f"STATUS={cut}") if part)
        if not assignments:
            return False
        try:
            # The package encodes in Latin-1, and systemd reads UTF-8.
            self._connected.notify(assignments.encode("utf-8", "replace").decode("latin-1"))
        except OSError:
            return False
        return True
