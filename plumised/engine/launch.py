"""Starts the engine's main process and follows its output and its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plumised.engine.errors import LaunchError, SpawnError
from plumised.engine.processes import INCARNATION_VARIABLE, ProcessId, identify, offer_to_oom_killer, send_signal
from plumised.engine.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from plumised.ipc.job import EngineJob

_OUTPUT: Final = logging.getLogger("plumised.engine.output")
_LONGEST_JOB: Final = 65536
"""What a pipe holds (pipe(7)), so that writing never waits for a reader."""

_IN_SIGHT_TIMEOUT_S: Final = 5.0
_IN_SIGHT_POLL_S: Final = 0.001
_NO_INTERPRETER: Final = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}
)


@dataclass(frozen=True, slots=True)
class Launch:
    """How an engine is started.

    Attributes:
        python: the interpreter of the engine's environment.
        environment: the whole environment of the process, apart from the incarnation that is added.
        arguments: of the interpreter. `-u`: the last words of a crash must not stay in a buffer; `-P`: the working
            directory is no place for modules.
        directory: the working directory.
    """

    python: Path
    environment: Mapping[str, str]
    arguments: tuple[str, ...] = ("-u", "-P", "-m", "plumised.petals")
    directory: str = "/"


class EngineProcess:
    """The main process of one incarnation. Made by `spawn`; `close` it after its end."""

    def __init__(self, process: subprocess.Popen[bytes], identity: ProcessId) -> None:
        self._process = process
        self.id = identity
        self.tail = Tail(_OUTPUT)
        self.exited = asyncio.Event()
        self._descriptor = os.pidfd_open(identity.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_exit)

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None before `exited`."""
        return self._process.returncode

    def _on_exit(self) -> None:
        if self._process.poll() is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self.exited.set()

    def instruct(self, job: EngineJob) -> None:
        """Write the settings to its standard input and close that. An engine that is gone already does not matter.

        Raises:
            LaunchError: the settings are too long.
        """
        text = job.to_json().encode()
        if len(text) > _LONGEST_JOB:
            raise LaunchError(
                f"the engine's settings are {len(text)} bytes long, more than {_LONGEST_JOB}",
                "Configure fewer addresses in swarm.",
            )
        assert self._process.stdin is not None  # noqa: S101 -- spawn made it a pipe
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(text)

    def interrupt(self) -> None:
        """Ask it to end in order."""
        send_signal(self.id, signal.SIGINT)

    async def relay(self) -> None:
        """Take its output, line by line, until nobody holds the pipe any more."""
        assert self._process.stdout is not None  # noqa: S101 -- spawn made it a pipe
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        try:
            await self.tail.follow(reader)
        finally:
            transport.close()

    def close(self) -> None:
        """Release what belongs to it."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


def spawn(launch: Launch, incarnation: str) -> EngineProcess:
    """Start an engine's main process as the leader of its own session.

    To be called from the main thread: the engine asks the kernel for a signal when the thread that started it ends.

    Raises:
        LaunchError: there is no such interpreter, or it cannot be executed.
        SpawnError: the system has no room for another process.
    """
    try:
        process = subprocess.Popen(
            [str(launch.python), *launch.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=launch.directory,
            env={**launch.environment, INCARNATION_VARIABLE: incarnation},
            start_new_session=True,
        )
    except OSError as error:
        if error.errno not in _NO_INTERPRETER:
            raise SpawnError(
                f"the system cannot start the engine: {error.strerror}",
                "Look for what uses up the machine's memory, processes or open files.",
            ) from error
        raise LaunchError(
            f"the engine's interpreter {launch.python} cannot be started: {error.strerror or error}",
            "Install plumise-engine-petals, or set engine.python to the interpreter of an engine environment.",
        ) from error
    try:
        identity = _identity(process)
        offer_to_oom_killer(process.pid)
        return EngineProcess(process, identity)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _identity(process: subprocess.Popen[bytes]) -> ProcessId:
    """The process's identity. The kernel keeps it until the process is waited for.

    Where /proc hides what one may not trace (ProtectProc=invisible), a process comes into sight with its own memory,
    which is a moment after Popen is told of a successful exec: up to then it has the daemon's, which is closed.

    Raises:
        SpawnError: it stays out of sight.
    """
    deadline = time.monotonic() + _IN_SIGHT_TIMEOUT_S
    while (identity := identify(process.pid)) is None:
        if time.monotonic() > deadline:
            raise SpawnError(
                f"the engine's process {process.pid} cannot be seen in /proc",
                "Let the daemon's user see its own processes there.",
            )
        time.sleep(_IN_SIGHT_POLL_S)
    return identity
