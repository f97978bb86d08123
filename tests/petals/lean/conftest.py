"""Models, what one process generates from them, and clients of what serves them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import pytest
import torch
from transformers import AutoModelForCausalLM

from plumised.petals.client.swarm import open_client
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from plumised.petals.client.session import Limits
    from plumised.petals.client.swarm import SwarmClient
    from tests.petals.engine_process import EngineProcess

    Alone = Callable[[Sequence[int], int], list[int]]
    Start = Callable[..., EngineProcess]

PROMPT: Final = tuple(range(5, 17))
TOKENS: Final = 16


@pytest.fixture(params=["bloom", "llama"])
def model(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def alone(model: Path) -> Alone:
    """What transformers generates in one process, not ending at any token."""
    whole = AutoModelForCausalLM.from_pretrained(model, torch_dtype=torch.float32)
    whole.config.eos_token_id = whole.generation_config.eos_token_id = None

    def generate(prompt: Sequence[int], count: int) -> list[int]:
        with torch.inference_mode():
            ids = whole.generate(torch.tensor([list(prompt)]), max_new_tokens=count, do_sample=False)
        new: list[int] = ids[0, len(prompt) :].tolist()
        return new

    return generate


def chain(start: Start, model: Path, *spans: tuple[int, int]) -> list[EngineProcess]:
    """Engines of one swarm, online."""
    engines: list[EngineProcess] = []
    for first, last in spans:
        swarm = {"initial_peers": engines[0].online().addresses} if engines else {}
        engines.append(start(model, first_block=first, last_block=last, **swarm))
    for engine in engines:
        engine.online()
    return engines


@contextlib.asynccontextmanager
async def joined(
    model: Path, engine: EngineProcess, *, limits: Limits | None = None, relay_only: bool = False
) -> AsyncIterator[SwarmClient]:
    """A client of the swarm that an engine belongs to."""
    addresses = (await asyncio.to_thread(engine.online)).addresses
    async with open_client(
        str(model), initial_peers=addresses, prefix=engine.job.prefix, limits=limits, relay_only=relay_only
    ) as client:
        yield client


async def generated(client: SwarmClient, prompt: Sequence[int], count: int) -> list[int]:
    """A whole generation that does not end at any token."""
    async with (
        asyncio.timeout(2 * DEADLINE_S),
        contextlib.aclosing(client.generate(prompt, count, stop=frozenset())) as tokens,
    ):
        return [token async for token in tokens]
