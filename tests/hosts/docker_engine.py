"""The Docker engine: found running, or started here and stopped by the last session that uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hosts.cache import cache_directory
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "hosts"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_ANSWER_TIMEOUT_S = 20.0


class NoDockerError(Exception):
    """There is no Docker engine and none can be started; the message says why."""


@dataclass(frozen=True)
class DockerEngine:
    """The engine as one checkout knows it.

    Attributes:
        place: directory for the pid file and the log of one that was started here.
        shared: directory for the locks, which all checkouts share: the engine is the machine's.
    """

    place: Path = PLACE
    shared: Path = field(default_factory=cache_directory)

    @property
    def pid_file(self) -> Path:
        return self.place / "dockerd.pid"

    @property
    def log_file(self) -> Path:
        return self.place / "dockerd.log"

    @property
    def _kept_file(self) -> Path:
        return self.place / "dockerd.keep"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """The engine runs inside of this. One that a session started ends with it, unless others still use it.

        Raises:
            NoDockerError: there is none and none can be started.
        """
        self.shared.mkdir(parents=True, exist_ok=True)
        with (self.shared / "users.lock").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            self.start(keep=False)
            try:
                yield
            finally:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not self._kept_file.exists():
                        self.stop()

    def start(self, *, keep: bool) -> None:
        """Have an engine run.

        Args:
            keep: leave it running after the sessions that use it.

        Raises:
            NoDockerError: there is none and none can be started.
        """
        self.shared.mkdir(parents=True, exist_ok=True)
        with (self.shared / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.place.mkdir(parents=True, exist_ok=True)
            if keep:
                self._kept_file.touch()
            if not _answers():
                self._start()

    def stop(self) -> None:
        """End the engine if this checkout started it."""
        pid = self._own_pid()
        self._kept_file.unlink(missing_ok=True)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            wait_until("dockerd has ended", lambda: self._own_pid() is None, _STOP_TIMEOUT_S)

    def _start(self) -> None:
        missing = [name for name in ("docker", "dockerd", "iptables") if shutil.which(name) is None]
        if missing:
            raise NoDockerError(f"{', '.join(missing)} not found; run requirements/debian-packages hosts")
        if os.geteuid() != 0:
            raise NoDockerError("no Docker engine answers, and only root can start one")
        if self._own_pid() is None:
            # A dockerd that was killed leaves a file that a later one takes for another daemon's.
            self.pid_file.unlink(missing_ok=True)
        with self.log_file.open("ab") as log:
            daemon = subprocess.Popen(
                ["dockerd", "--pidfile", str(self.pid_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        def settled() -> bool:
            return daemon.poll() is not None or _answers()

        try:
            wait_until("the Docker engine answers", settled, _START_TIMEOUT_S)
        except TimeoutError as error:
            daemon.terminate()
            raise NoDockerError(f"{error}; see {self.log_file}") from None
        if daemon.returncode is not None:
            tail = self.log_file.read_text(errors="replace")[-1500:]
            raise NoDockerError(f"dockerd ended with {daemon.returncode}:\n{tail}")

    def _own_pid(self) -> int | None:
        """The process of the engine that this checkout started, if it lives."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if str(self.pid_file).encode() in command else None


def _answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        subprocess.run(["docker", "version"], check=True, capture_output=True, timeout=_ANSWER_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
    return True
