"""Servers hand results to each other, and each step is computed and counted once, whoever brings it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ipc.messages import Counters
from plumised.petals.client.session import Limits
from plumised.petals.pushing import names_servers
from tests.devnet.client import LanguageModelClient, Request
from tests.petals.conftest import BLOCKS
from tests.petals.lean.conftest import PROMPT, TOKENS, chain, generated, joined
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    from pathlib import Path

    from tests.petals.lean.conftest import Alone, Start

COUNTED = Counters(requests=1, steps=TOKENS, tokens=len(PROMPT) + TOKENS - 1)


async def test_after_the_first_step_servers_hand_on_every_result(model: Path, alone: Alone, start: Start) -> None:
    engines = await asyncio.to_thread(chain, start, model, (0, 1), (1, 2), (2, BLOCKS))
    async with joined(model, engines[0], limits=Limits(patience_s=DEADLINE_S)) as client:
        assert await generated(client, PROMPT, TOKENS) == alone(PROMPT, TOKENS)
        assert client.traffic.passed_on == 2 * (TOKENS - 1)
    assert [engine.tallied().inference for engine in engines] == [COUNTED] * 3


async def test_what_is_proven_to_have_left_one_server_is_what_has_come_to_the_next(bloom: Path, start: Start) -> None:
    first, second = await asyncio.to_thread(chain, start, bloom, (0, 2), (2, BLOCKS))
    async with joined(bloom, first, limits=Limits(patience_s=DEADLINE_S)) as client:
        await generated(client, PROMPT, TOKENS)
    (left,), (come,) = first.proven(), second.proven()
    assert left.output_digest == come.input_digest


@pytest.mark.parametrize("relay_only", [False, True], ids=["of both", "of the client alone"])
async def test_a_step_that_comes_from_several_sides_counts_once(
    model: Path, alone: Alone, start: Start, relay_only: bool
) -> None:
    engines = await asyncio.to_thread(chain, start, model, (0, 2), (2, BLOCKS))
    # Without patience the client brings it as well.
    async with joined(model, engines[0], limits=Limits(patience_s=0), relay_only=relay_only) as client:
        assert await generated(client, PROMPT, TOKENS) == alone(PROMPT, TOKENS)
    assert [engine.tallied().inference for engine in engines] == [COUNTED] * 2


async def test_petals_own_client_s_steps_count_once(bloom: Path, start: Start, tmp_path: Path) -> None:
    engines = await asyncio.to_thread(chain, start, bloom, (0, 2), (2, BLOCKS))
    peers = engines[0].online().addresses
    async with LanguageModelClient.swarm(bloom, "test", peers, log=tmp_path / "log") as client:
        ids = (await client.generate(Request(TOKENS, ids=PROMPT))).ids
    counted = Counters(requests=1, steps=len(ids), tokens=len(PROMPT) + len(ids) - 1)
    assert [engine.tallied().inference for engine in engines] == [counted] * 2


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.booleans(), lambda inner: st.lists(inner, max_size=5)
)


@given(anything)
def test_what_names_no_servers_is_told_apart(value: Any) -> None:
    named = names_servers(value)
    if named:
        peer, session, first, last = value[0]
        assert isinstance(peer, str)
        assert isinstance(session, str)
        assert 0 <= first < last


@given(st.integers(0, 10**12), st.integers(1, 1024), st.integers(1, 256))
def test_servers_are_named_by_peer_session_and_blocks(first: int, length: int, count: int) -> None:
    server = ["peer", "session", first, first + length]
    assert names_servers([server] * count)
    assert not names_servers([server] * 257)
    assert not names_servers([["peer", "session", first, first + 1024 + length]])
