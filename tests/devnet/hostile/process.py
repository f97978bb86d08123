"""Drives the program of a hostile peer."""

from __future__ import annotations

import json
import select
import subprocess
from typing import TYPE_CHECKING, Final, Self

from tests.devnet.client.process import ENGINE_PYTHON, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ANSWERS_WITHIN_S: Final = 180.0


class HostilePeer:
    """One such peer, with an identity of its own; see `tests.devnet.hostile.__main__`. A context manager.

    Args:
        address: of the node.
        prefix: of the names of its blocks.
        blocks: that it serves, from 0.
        hidden: size of its hidden states.
        log: file for what the program writes.
        python: the command line that starts the engine environment's Python, which may be on another machine.
    """

    def __init__(
        self,
        address: str,
        prefix: str,
        blocks: int,
        hidden: int,
        *,
        log: Path,
        python: Sequence[str] = (str(ENGINE_PYTHON),),
    ) -> None:
        self._arguments = [*python, "-m", "tests.devnet.hostile", address, prefix, str(blocks), str(hidden)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT
            )
        self._answer()
        return self

    def __exit__(self, *exc: object) -> None:
        self.vanish()
        for pipe in (self._running.stdin, self._running.stdout):
            if pipe is not None:
                pipe.close()

    def do(self, attack: str, **arguments: int) -> dict[str, str]:
        """Carry out an attack; what came of each of its parts: `served`, `refused: …`, `closed` or `silence`."""
        stdin = self._running.stdin
        assert stdin is not None
        stdin.write(json.dumps({"do": attack, **arguments}).encode() + b"\n")
        stdin.flush()
        return self._answer()

    def vanish(self) -> None:
        """Be gone, with everything that is open, without a word."""
        self._running.kill()
        self._running.wait()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _answer(self) -> dict[str, str]:
        stdout = self._running.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], _ANSWERS_WITHIN_S)
        line = stdout.readline() if ready else b""
        if not line:
            said = self._log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"the hostile peer does not answer:\n{said}")
        answer: dict[str, str] = json.loads(line)
        return answer
