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
    from collections.abc import Callable, Mapping, Sequence

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


@dataclass(frozen=True)
class Generations:
    """What came of prompts that were generated from at the same time.

    Attributes:
        ids: the tokens that were generated, in the order of the prompts.
        seconds: from asking to the last token of all.
        sent, received: as in `Generation`.
    """

    ids: tuple[tuple[int, ...], ...]
    seconds: float
    sent: int
    received: int


class LanguageModelClient:
    """One client process; requests are served one after the other.

    `python` is the command line that starts the engine environment's Python, which may be on another machine.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        python: Sequence[str] = (str(ENGINE_PYTHON),),
        start_timeout_s: float = 120.0,
    ) -> None:
        self._arguments = arguments
        self._python = python
        self._log = log
        self._start_timeout_s = start_timeout_s
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    def swarm(cls, model: Path, prefix: str, peers: Sequence[str], *, log: Path) -> Self:
        """A client that generates through the swarm, Petals' own."""
        return cls(["swarm", str(model), prefix, *peers], log=log)

    @classmethod
    def own(cls, model: Path, prefix: str, peers: Sequence[str], *, log: Path) -> Self:
        """A client that generates through the swarm, plumised's."""
        return cls(["own", str(model), prefix, *peers], log=log)

    @classmethod
    def local(cls, model: Path, *, log: Path) -> Self:
        """A client that has the whole model in its process."""
        return cls(["local", str(model)], log=log)

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._python,
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
        wanted = {"ids": request.ids, "prompt": request.prompt, "max_new_tokens": request.max_new_tokens}
        ids: list[int] = []
        async with asyncio.timeout(timeout_s):
            await self._ask({name: value for name, value in wanted.items() if value is not None})
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

    async def generate_together(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, timeout_s: float = 240.0
    ) -> Generations:
        """Generate greedily from several prompts at the same time, each in a session of its own.

        Raises:
            ClientError: the client reports an error, or has ended.
            TimeoutError: it takes longer than `timeout_s`.
        """
        async with asyncio.timeout(timeout_s):
            await self._ask({"together": [list(prompt) for prompt in prompts], "max_new_tokens": max_new_tokens})
            event = await self._event("done")
        return Generations(
            ids=tuple(tuple(ids) for ids in event["generated"]),
            seconds=event["seconds"],
            sent=event["sent"],
            received=event["received"],
        )

    async def _ask(self, request: Mapping[str, object]) -> None:
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        await process.stdin.drain()

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
