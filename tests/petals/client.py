"""Drives a Petals client program."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.petals.engine_process import ENGINE_PYTHON, ROOT
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ClientError(Exception):
    """The swarm did not do what the client asked for."""


@dataclass(frozen=True)
class Kept:
    """What the client sent and received in one request.

    Attributes:
        place: of the files, without their endings.
    """

    place: Path

    @property
    def sent(self) -> bytes:
        """The values of all hidden states, and of gradients, that were sent."""
        return self.place.with_name(self.place.name + ".sent").read_bytes()

    @property
    def received(self) -> bytes:
        """The same of what came back."""
        return self.place.with_name(self.place.name + ".received").read_bytes()


@dataclass(frozen=True)
class Step:
    """One step of a session.

    Attributes:
        session: its name.
        batch: size.
        length: of the step.
        seed: of the values that are sent; None for any.
        keep: where to keep what is sent and received.
    """

    session: str
    batch: int = 1
    length: int = 1
    seed: int | None = None
    keep: Kept | None = None

    def request(self, prefix: str) -> dict[str, object]:
        """As the client program takes it."""
        return {
            "do": "step",
            "session": self.session,
            "prefix": prefix,
            "batch": self.batch,
            "length": self.length,
            "seed": self.seed,
            "keep": _place(self.keep),
        }


def _place(keep: Kept | None) -> str | None:
    return None if keep is None else str(keep.place)


class SwarmClient:
    """One client process, see `tests.petals.swarm_client`. A context manager.

    Args:
        model: directory of the checkpoint, for its shape.
        peers: of the swarm.
        log: file for what the process writes.
    """

    def __init__(self, model: Path, peers: Sequence[str], log: Path) -> None:
        self._arguments = [str(ENGINE_PYTHON), "-m", "tests.petals.swarm_client", str(model), *peers]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        self._answer()
        return self

    def __exit__(self, *exc: object) -> None:
        process = self._running()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def open(self, session: str, *, prefix: str = "test", max_length: int = 64) -> None:
        """Open an inference session; the servers hear of it with the first step."""
        self._ask(do="open", session=session, prefix=prefix, max_length=max_length)

    def step(
        self, session: str, *, batch: int = 1, length: int = 1, prefix: str = "test", keep: Kept | None = None
    ) -> list[int] | None:
        """One step of a session; the shape of the hidden states that came back."""
        return self._ask(**Step(session, batch, length, keep=keep).request(prefix))

    def together(self, *steps: Step, prefix: str = "test") -> None:
        """Steps of several sessions at once; returns when all are answered."""
        self._ask(do="together", prefix=prefix, steps=[step.request(prefix) for step in steps])

    def close(self, session: str, *, prefix: str = "test") -> None:
        """End a session."""
        self._ask(do="close", session=session, prefix=prefix)

    def forward(
        self, *, batch: int, length: int, streamed: bool = False, prefix: str = "test", keep: Kept | None = None
    ) -> list[int] | None:
        """One forward pass."""
        return self._pass("forward", batch, length, streamed, prefix, keep)

    def backward(
        self, *, batch: int, length: int, streamed: bool = False, prefix: str = "test", keep: Kept | None = None
    ) -> list[int] | None:
        """One backward pass."""
        return self._pass("backward", batch, length, streamed, prefix, keep)

    def _pass(
        self, do: str, batch: int, length: int, streamed: bool, prefix: str, keep: Kept | None
    ) -> list[int] | None:
        return self._ask(do=do, prefix=prefix, batch=batch, length=length, streamed=streamed, keep=_place(keep))

    def _ask(self, **request: object) -> list[int] | None:
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> list[int] | None:
        stdout = self._running().stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], DEADLINE_S)
        line = stdout.readline() if ready else b""
        if not line:
            raise AssertionError(f"the client does not answer:\n{self._log.read_text(errors='replace')[-3000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        shape: list[int] | None = answer["shape"]
        return shape

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process
