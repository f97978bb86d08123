"""A server of ours and one of stock Petals, in either order, serve either client the tokens of one process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from plumised.petals.client.swarm import open_client
from tests.bench.swarms import PREFIX, BareNode
from tests.devnet.client import LanguageModelClient, Request
from tests.petals.conftest import BLOCKS
from tests.petals.lean.conftest import PROMPT, TOKENS, generated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.petals.lean.conftest import Alone, Start

SPANS = ((0, 2), (2, BLOCKS))


@pytest.fixture(params=["ours first", "petals' first"])
def peers(request: pytest.FixtureRequest, model: Path, start: Start, tmp_path: Path) -> Iterator[list[str]]:
    """A swarm of both."""
    if request.param == "ours first":
        (first, last), span = SPANS
        ours = start(model, first_block=first, last_block=last, prefix=PREFIX)
        addresses = list(ours.online().addresses)
        with BareNode(model, span, addresses, tmp_path):
            yield addresses
    else:
        span, (first, last) = SPANS
        with BareNode(model, span, [], tmp_path) as bare:
            ours = start(model, first_block=first, last_block=last, prefix=PREFIX, initial_peers=tuple(bare.peers))
            ours.online()
            yield bare.peers


async def test_both_clients_get_the_tokens_of_one_process(
    peers: list[str], model: Path, alone: Alone, tmp_path: Path
) -> None:
    expected = alone(PROMPT, TOKENS)
    async with open_client(str(model), initial_peers=peers, prefix=PREFIX) as own:
        assert await generated(own, PROMPT, TOKENS) == expected
        together = await asyncio.gather(*(generated(own, PROMPT, TOKENS) for _ in range(3)))
        assert together == [expected] * 3
    async with LanguageModelClient.swarm(model, PREFIX, peers, log=tmp_path / "client.log") as stock:
        # That one ends at the model's own last token.
        ids = list((await stock.generate(Request(TOKENS, ids=PROMPT))).ids)
    assert ids == expected[: len(ids)]
    assert ids
