"""The processes that `tests.bench.engine` compares: generators of text, and nodes that serve a part of the model."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from tests.devnet.client.process import ROOT
from tests.petals.engine_process import ENGINE_PYTHON, EngineProcess
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HANDLERS: Final = 2
PREFIX: Final = "bench"
DEADLINE_S: Final = 300.0


class Generator:
    """A process of `tests.bench.generating`. A context manager.

    Args:
        kind: `stock`, `own` or `local`.
        model: directory of the checkpoint.
        peers: of the swarm; none for `local`.
        log: file for what the process writes.
    """

    def __init__(self, kind: str, model: Path, peers: Sequence[str], log: Path) -> None:
        swarm = [PREFIX, *peers] if peers else []
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [ENGINE_PYTHON, "-m", "tests.bench.generating", kind, str(model), *swarm],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                start_new_session=True,
            )
        self._log = log
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _end(self._process)

    def ask(self, **order: int) -> dict[str, Any]:
        """What comes of one order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = self._answer()
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"no answer:\n{self._log.read_text(errors='replace')[-3000:]}")
        return json.loads(line)


class BareNode:
    """A Petals server as upstream has it. A context manager."""

    def __init__(self, model: Path, span: tuple[int, int], peers: Sequence[str], directory: Path) -> None:
        log = directory / f"bare-{span[0]}.log"
        first, last = span
        swarm = ["--initial_peers", *peers] if peers else ["--new_swarm"]
        started = time.monotonic()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [
                    *(ENGINE_PYTHON, "-m", "tests.bench.bare_petals", str(model), "--device", "cpu"),
                    *("--torch_dtype", "float32", "--throughput", "10.0", "--num_handlers", str(HANDLERS)),
                    *("--dht_prefix", PREFIX, "--host_maddrs", "/ip4/127.0.0.1/tcp/0", *swarm),
                    *("--block_indices", f"{first}:{last}"),
                ],
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HIVEMIND_COLORS": "False"},
                start_new_session=True,
            )
        self.pid = self._process.pid
        try:
            eventually(
                lambda: re.search(r"\bStarted$", log.read_text(), re.MULTILINE), "it serves", deadline_s=DEADLINE_S
            )
            self.start_s = time.monotonic() - started
            addresses = re.findall(r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+", log.read_text())
            self.peers = addresses[-1:] if peers else addresses[:1]
        except BaseException:
            sys.stderr.write(log.read_text()[-3000:])
            _end(self._process)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _end(self._process)


class OurNode:
    """Our engine. A context manager."""

    def __init__(
        self, model: Path, span: tuple[int, int], peers: Sequence[str], dtype: str, quantization: str = "none"
    ) -> None:
        settings: dict[str, Any] = {
            "prefix": PREFIX,
            "first_block": span[0],
            "last_block": span[1],
            "handlers": HANDLERS,
            "threads": None,
            "dtype": dtype,
            "quantization": quantization,
        }
        if peers:
            settings["initial_peers"] = tuple(peers)
        self._engine = EngineProcess(model, **settings)
        started = time.monotonic()
        self._engine.__enter__()
        self.peers = list(self._engine.online().addresses)
        self.start_s = time.monotonic() - started
        self.pid = self._engine.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._engine.__exit__(*exc)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a session, and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
