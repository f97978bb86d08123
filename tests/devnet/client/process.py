"""Drives a client program: asks, streams its tokens, ends it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[3]
ENGINE_PYTHON = ROOT / "build" / "env" / "engine" / "bin" / "python"


class ClientError(Exception):
    """The client could not generate, or ended."""


@dataclass(frozen=True)
class Request:
    """What to generate. Either ids or a prompt for the model's chat template."""

    max_new_tokens: int
    ids: tuple[int, ...] | None = None
    prompt: str | None = None


@dataclass(frozen=True)
class Generation:
    """What came of a request.

    Attributes:
        prompt_ids: the prompt's tokens.
        ids: the tokens that were generated.
        text: these as text, where the model has a tokenizer.
        seconds: from asking to the last token.
        sent, received: tokens that this client sent to servers and got back, over its life, once per server.
    """

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str | None
    seconds: float
    sent: int
    received: int


class LanguageModelClient:
    """One client process; requests are served one after the other."""

    def __init__(self, arguments: Sequence[str], *, log: Path, start_timeout_s: float = 120.0) -> None:
        self._arguments = arguments
        self._log = log
        self._start_timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def swarm(cls, model: Path, prefix: str, peers: Sequence[str], *, log: Path) -> Self:
        """A client that generates through the swarm."""
        return cls(["swarm", str(model), prefix, *peers], log=log)

    @classmethod
    def local(cls, model: Path, *, log: Path) -> Self:
        """A client that has the whole model in its process."""
        return cls(["local", str(model)], log=log)

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(ENGINE_PYTHON),
                "-m",
                "tests.devnet.client",
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._event("ready")
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    async def generate(
        self, request: Request, *, on_token: Callable[[int], None] | None = None, timeout_s: float = 120.0
    ) -> Generation:
        """Generate greedily.

        Raises:
            ClientError: the client reports an error, or has ended.
            TimeoutError: it takes longer than `timeout_s`.
        """
        process = self._running()
        assert process.stdin is not None
        wanted = {"ids": request.ids, "prompt": request.prompt, "max_new_tokens": request.max_new_tokens}
        process.stdin.write(json.dumps({k: v for k, v in wanted.items() if v is not None}).encode() + b"\n")
        ids: list[int] = []
        async with asyncio.timeout(timeout_s):
            await process.stdin.drain()
            while True:
                event = await self._event("token", "done")
                if event["event"] == "done":
                    return Generation(
                        prompt_ids=tuple(event["prompt_ids"]),
                        ids=tuple(ids),
                        text=event["text"],
                        seconds=event["seconds"],
                        sent=event["sent"],
                        received=event["received"],
                    )
                ids.append(event["id"])
                if on_token is not None:
                    on_token(event["id"])

    async def _event(self, *expected: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise ClientError(f"the client ended with status {await process.wait()}:\n{tail}")
        event: dict[str, Any] = json.loads(line)
        if event["event"] not in expected:
            raise ClientError(str(event.get("message", event)))
        return event

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ClientError("the client has not been started")
        return self._process

    async def _end(self) -> None:
        """End the client and the p2pd that it started; they share a session of their own."""
        process = self._running()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
