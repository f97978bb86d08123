"""Clients of the swarm on a host of the cluster: one that is asked, and one that keeps generating."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from tests.devnet.client import ClientError, Generation, Generations, LanguageModelClient, Request
from tests.devnet.client.process import ENGINE_PYTHON, ROOT
from tests.e2e.services import MODEL_PLACE
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.hosts.host import Host

GENERATED_WITHIN_S: Final = 240.0
_PAUSE_AFTER_ERROR_S: Final = 0.5


@dataclass(frozen=True)
class Client:
    """A client program that is up; one request after the other."""

    _portal: BlockingPortal
    _client: LanguageModelClient

    @classmethod
    @contextlib.contextmanager
    def swarm(
        cls, host: Host, portal: BlockingPortal, prefix: str, peers: Sequence[str], log: Path
    ) -> Iterator[Client]:
        """One that generates through the swarm."""
        with _running(host, portal, ["swarm", MODEL_PLACE, prefix, *peers], log) as client:
            yield cls(portal, client)

    @classmethod
    @contextlib.contextmanager
    def local(cls, host: Host, portal: BlockingPortal, log: Path) -> Iterator[Client]:
        """One that has the whole model in its process."""
        with _running(host, portal, ["local", MODEL_PLACE], log) as client:
            yield cls(portal, client)

    def generate(self, ids: Sequence[int], max_new_tokens: int) -> Generation:
        """Generate greedily.

        Raises:
            ClientError: it could not.
        """
        return self.start(ids, max_new_tokens).result()

    def start(self, ids: Sequence[int], max_new_tokens: int, tokens: list[int] | None = None) -> Future[Generation]:
        """Begin to generate; `tokens` grows as they come."""
        came = [] if tokens is None else tokens

        async def generated() -> Generation:
            request = Request(max_new_tokens, ids=tuple(ids))
            return await self._client.generate(request, on_token=came.append, timeout_s=GENERATED_WITHIN_S)

        return self._portal.start_task_soon(generated)

    def generate_together(self, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Generations:
        """Generate from several prompts at the same time, each in a session of its own.

        Raises:
            ClientError: it could not.
        """

        async def generated() -> Generations:
            return await self._client.generate_together(prompts, max_new_tokens, timeout_s=GENERATED_WITHIN_S)

        return self._portal.call(generated)


@contextlib.contextmanager
def _running(host: Host, portal: BlockingPortal, arguments: Sequence[str], log: Path) -> Iterator[LanguageModelClient]:
    python = host.argv("env", "-C", str(ROOT), str(ENGINE_PYTHON))
    with portal.wrap_async_context_manager(LanguageModelClient(arguments, log=log, python=python)) as client:
        yield client


@dataclass
class Load:
    """Sessions of one client, one after the other, until `stop`. Each generates from the same prompt.

    Attributes:
        reference: the tokens that must come of it.
        came: when each token came, by the monotonic clock.
        finished: when each session ended with all of its tokens.
        errors: what sessions ended with that did not.
        wrong: tokens of sessions that gave others than the reference.
        sent, received: tokens that went to servers and came back, over the client's life.
    """

    client: Client
    prompt: tuple[int, ...]
    reference: tuple[int, ...]
    came: list[float] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wrong: list[tuple[int, ...]] = field(default_factory=list)
    sent: int = 0
    received: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the session that is under way end, and begin no other."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def wait_finished(self, count: int, timeout_s: float) -> None:
        """Wait until so many sessions have ended with all of their tokens.

        Raises:
            AssertionError: they have not; with what became of the last ones.
        """
        try:
            wait_until(f"{count} sessions have ended", lambda: len(self.finished) >= count, timeout_s)
        except TimeoutError:
            silent = time.monotonic() - self.came[-1] if self.came else timeout_s
            told = f"no token for {silent:.0f} s, errors: {self.errors[-3:]}"
            raise AssertionError(f"{len(self.finished)} of {count} sessions in {timeout_s:g} s; {told}") from None

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                done = self.client.start(self.prompt, len(self.reference), _Times(self.came)).result()
            except (ClientError, TimeoutError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                self._over.wait(_PAUSE_AFTER_ERROR_S)
                continue
            self.finished.append(time.monotonic())
            self.sent, self.received = done.sent, done.received
            if done.ids != self.reference:
                self.wrong.append(done.ids)


class _Times(list[int]):
    """Takes tokens, and notes when each came."""

    def __init__(self, times: list[float]) -> None:
        super().__init__()
        self._times = times

    def append(self, token: int) -> None:
        super().append(token)
        self._times.append(time.monotonic())
