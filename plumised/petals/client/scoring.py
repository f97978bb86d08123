"""Lets sessions that wait for their next token at the same time share one pass over the head's weights."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from plumised.petals.client.head import AT_ONCE

if TYPE_CHECKING:
    from plumised.petals.client.ends import Ends
    from plumised.petals.client.head import GreedyHead


class Scorer:
    """Turns the last block's states to tokens, in a thread of its own. Of one event loop.

    Args:
        ends: of the model; their norm is applied.
        head: finds the tokens.
    """

    def __init__(self, ends: Ends, head: GreedyHead) -> None:
        self._ends = ends
        self._head = head
        self._thread = ThreadPoolExecutor(1, "plumised-head")
        self._waiting: list[tuple[torch.Tensor, asyncio.Future[int]]] = []
        self._working: asyncio.Task[None] | None = None

    async def next_token(self, state: torch.Tensor) -> int:
        """The token that follows a state [hidden size] of the last block."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((state, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                some, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                states = [state for state, _ in some]
                try:
                    tokens = await loop.run_in_executor(self._thread, self._compute, states)
                except BaseException as error:
                    for _, answer in (*some, *self._waiting):
                        if not answer.done():
                            answer.set_exception(error)
                    self._waiting.clear()
                    raise
                for (_, answer), token in zip(some, tokens, strict=True):
                    if not answer.done():
                        answer.set_result(token)
        finally:
            self._working = None

    def _compute(self, states: list[torch.Tensor]) -> list[int]:
        with torch.inference_mode():
            return self._head.best(self._ends.norm(torch.stack(states)))

    def close(self) -> None:
        """End the thread, once it has computed what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)
