"""Real engines, and a client that generates through them what one process would."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from plumised.ipc.messages import Counters
from plumised.petals.client.session import Limits, SwarmError
from tests.devnet.client import LanguageModelClient, Request
from tests.petals.conftest import BLOCKS
from tests.petals.lean.conftest import PROMPT, TOKENS, chain, generated, joined
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.petals.engine_process import EngineProcess
    from tests.petals.lean.conftest import Alone, Start

PATIENT = Limits(recovery_s=2 * DEADLINE_S, refusals=10_000)


def served_tokens(engine: EngineProcess) -> int:
    return engine.tallied().inference.tokens


async def test_the_tokens_are_those_of_one_process_and_of_petals_own_client(
    model: Path, alone: Alone, start: Start, tmp_path: Path
) -> None:
    first, _ = await asyncio.to_thread(chain, start, model, (0, 2), (2, BLOCKS))
    async with joined(model, first) as client:
        mine = await generated(client, PROMPT, TOKENS)
        assert mine == alone(PROMPT, TOKENS)
    stock = LanguageModelClient.swarm(model, "test", first.online().addresses, log=tmp_path / "log")
    async with stock:
        # That one ends at the model's own last token.
        theirs = (await stock.generate(Request(TOKENS, ids=PROMPT))).ids
    assert mine[: len(theirs)] == list(theirs)


async def test_generations_at_the_same_time_do_not_touch_each_other(model: Path, alone: Alone, start: Start) -> None:
    first, _ = await asyncio.to_thread(chain, start, model, (0, 2), (2, BLOCKS))
    prompts = [PROMPT[: 1 + number] for number in range(10)]
    async with joined(model, first) as client:
        every = await asyncio.gather(*(generated(client, prompt, TOKENS) for prompt in prompts))
    assert every == [alone(prompt, TOKENS) for prompt in prompts]


async def test_a_long_prompt_goes_in_several_steps(
    model: Path, alone: Alone, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumised.petals.client.session._TOKENS_AT_ONCE", 5)
    (engine,) = await asyncio.to_thread(chain, start, model, (0, BLOCKS))
    async with joined(model, engine) as client:
        assert await generated(client, PROMPT, TOKENS) == alone(PROMPT, TOKENS)
    # 12 tokens in three steps, and one for each further token; the last token is computed from, but not.
    assert engine.tallied().inference == Counters(requests=1, steps=3 + TOKENS - 1, tokens=len(PROMPT) + TOKENS - 1)


async def test_it_ends_after_a_token_that_ends_texts(bloom: Path, start: Start) -> None:
    (engine,) = await asyncio.to_thread(chain, start, bloom, (0, BLOCKS))
    async with joined(bloom, engine) as client:
        every = await generated(client, PROMPT, TOKENS)
        last = every[4]
        ended = [token async for token in client.generate(PROMPT, TOKENS, stop=frozenset({last}))]
        assert client.stop == {2}
    assert ended == every[: every.index(last) + 1]


async def test_each_token_is_there_before_the_next_is_computed(bloom: Path, start: Start) -> None:
    (engine,) = await asyncio.to_thread(chain, start, bloom, (0, BLOCKS))
    async with joined(bloom, engine) as client, contextlib.aclosing(client.generate(PROMPT, 5)) as tokens:
        for number in range(3):
            await anext(tokens)
            assert served_tokens(engine) == len(PROMPT) + number


async def test_what_it_says_it_sent_is_what_is_counted(model: Path, start: Start) -> None:
    engines = await asyncio.to_thread(chain, start, model, (0, 2), (2, BLOCKS))
    async with joined(model, engines[0]) as client:
        for _ in range(2):
            await generated(client, PROMPT, TOKENS)
        traffic = client.traffic
    each = Counters(requests=2, steps=2 * TOKENS, tokens=2 * (len(PROMPT) + TOKENS - 1))
    assert [engine.tallied().inference for engine in engines] == [each, each]
    assert traffic.sent == traffic.received == 2 * each.tokens


@pytest.mark.parametrize("failing", [0, 1], ids=["the first", "the last"])
async def test_a_server_that_is_killed_in_the_middle_is_replaced(
    model: Path, alone: Alone, start: Start, failing: int
) -> None:
    spans = [(0, 2), (2, BLOCKS)]
    # The first one, through which the client joins, is none of those that may be killed.
    _, *engines = await asyncio.to_thread(chain, start, model, (0, 1), *spans, *spans)
    candidates = engines[failing::2]
    limits = Limits(recovery_s=2 * DEADLINE_S)
    async with joined(model, engines[1 - failing], limits=limits) as client:
        tokens, got = client.generate(PROMPT, TOKENS, stop=frozenset()), []
        async with asyncio.timeout(4 * DEADLINE_S), contextlib.aclosing(tokens):
            got += [await anext(tokens) for _ in range(4)]
            (used,) = [engine for engine in candidates if served_tokens(engine)]
            await asyncio.to_thread(used.__exit__)
            got += [token async for token in tokens]
    assert got == alone(PROMPT, TOKENS)


async def test_a_server_that_answers_no_more_is_replaced(model: Path, alone: Alone, start: Start) -> None:
    engines = await asyncio.to_thread(chain, start, model, (0, BLOCKS), (0, BLOCKS))
    limits = Limits(answer_s=5, recovery_s=2 * DEADLINE_S)
    async with joined(model, engines[0], limits=limits) as client:
        tokens, got = client.generate(PROMPT, TOKENS, stop=frozenset()), []
        async with asyncio.timeout(4 * DEADLINE_S), contextlib.aclosing(tokens):
            got += [await anext(tokens) for _ in range(4)]
            (used,) = [engine for engine in engines if served_tokens(engine)]
            for process in used.processes():
                if process.name.startswith("plumise-hdl"):
                    os.kill(process.pid, signal.SIGSTOP)
            got += [token async for token in tokens]
    assert got == alone(PROMPT, TOKENS)


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_a_generation_that_is_left_frees_its_place_at_once(bloom: Path, start: Start, how: str) -> None:
    # Room for one sequence of this length.
    length = len(PROMPT) + TOKENS
    (engine,) = await asyncio.to_thread(
        lambda: [start(bloom, first_block=0, last_block=BLOCKS, attention_cache_tokens=length)]
    )
    async with joined(bloom, engine, limits=PATIENT) as client:
        tokens = client.generate(PROMPT, TOKENS, stop=frozenset())
        await anext(tokens)
        if how == "closed":
            await tokens.aclose()
        else:
            with contextlib.suppress(TimeoutError):
                # Cancels what has just sent a step.
                async with asyncio.timeout(0):
                    await anext(tokens)
        assert len(await generated(client, PROMPT, TOKENS)) == TOKENS


async def test_what_every_server_refuses_is_an_error(bloom: Path, start: Start) -> None:
    (engine,) = await asyncio.to_thread(chain, start, bloom, (0, BLOCKS))
    async with joined(bloom, engine) as client:
        with pytest.raises(SwarmError, match="Cannot allocate KV cache"):
            await generated(client, PROMPT, 100_000)


async def test_blocks_that_nobody_serves_are_an_error(bloom: Path, start: Start) -> None:
    (engine,) = await asyncio.to_thread(chain, start, bloom, (0, 2))
    async with joined(bloom, engine, limits=Limits(recovery_s=3)) as client:
        with pytest.raises(SwarmError, match=r"blocks 0 to 2: No servers holding blocks \[2\]"):
            await generated(client, PROMPT, TOKENS)


@pytest.mark.parametrize("prompt", [(), (-1,), (5, 256)])
async def test_a_prompt_is_at_least_one_of_the_model_s_tokens(
    bloom: Path, served: EngineProcess, prompt: tuple[int, ...]
) -> None:
    async with joined(bloom, served) as client:
        with pytest.raises(ValueError, match="at least one"):
            await generated(client, prompt, TOKENS)
