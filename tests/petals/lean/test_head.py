"""The head's answer is that of the float32 logits, whatever the weights and states are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plumised.petals.client.head import AT_ONCE, GreedyHead, Int8Rows, Scores, load_scores
from plumised.petals.fast.building import build, library
from plumised.petals.fast.kernel import LIBRARIES
from tests.petals.fast.conftest import runnable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Drawn = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="session", params=[(name, threads) for name in runnable() for threads in (1, 3)], ids=str)
def scores(request: pytest.FixtureRequest) -> Scores:
    build(LIBRARIES)
    capability, threads = request.param
    return Scores(library(LIBRARIES, capability, "head"), threads)


def full(weight: torch.Tensor, states: torch.Tensor) -> list[int]:
    """What transformers does: each state alone, as in a session."""
    return [int(torch.nn.functional.linear(state[None], weight)[0].argmax()) for state in states]


@st.composite
def heads(draw: st.DrawFn) -> Drawn:
    """Weights of any size and scale, with rows that weigh more than others, and states."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    rows, inputs = draw(st.integers(1, 300)), draw(st.integers(1, 200))
    weight = torch.randn(rows, inputs, generator=generator) * 10.0 ** draw(st.integers(-6, 4))
    weight[:, torch.rand(inputs, generator=generator) < draw(st.floats(0, 0.2))] *= 30
    states = torch.randn(draw(st.integers(1, 20)), inputs, generator=generator) * 10.0 ** draw(st.integers(-4, 4))
    return weight, states


def ties(drawn: Drawn, generator: torch.Generator) -> Drawn:
    """Every row is there several times."""
    weight, states = drawn
    repeated = weight[torch.randint(0, max(1, len(weight) // 4), (len(weight),), generator=generator)]
    return repeated, states


def near_ties(drawn: Drawn, generator: torch.Generator) -> Drawn:
    """Every row is the same but for the last bits of its weights: sums of another order may put another first."""
    weight, states = drawn
    rounding = 1 + torch.randint(-2, 3, weight.shape, generator=generator) * 2.0**-23
    return weight[:1] * rounding, states


def cancelling(drawn: Drawn, generator: torch.Generator) -> Drawn:
    """Logits are small differences of large products."""
    weight, states = drawn
    halves = torch.cat([weight, -weight + weight.abs().mean() * 1e-6 * torch.randn_like(weight)], dim=1)
    return halves, torch.cat([states, states], dim=1) * torch.randn(1, generator=generator)


def coarse(drawn: Drawn, generator: torch.Generator) -> Drawn:
    """One weight of each group is so large that int8 says next to nothing about the others."""
    weight, states = drawn
    weight = weight.clone()
    weight[:, ::64] = 1e4 * weight.abs().max()
    states = states.clone()
    states[:, ::64] = 1e-4 * torch.randn(len(states), states[:, ::64].shape[1], generator=generator)
    return weight, states


@given(heads())
def test_the_token_is_that_of_the_float32_logits(scores: Scores, drawn: Drawn) -> None:
    weight, states = drawn
    assert GreedyHead(weight, scores).best(states) == full(weight, states)


@pytest.mark.parametrize("made", [ties, near_ties, cancelling, coarse], ids=lambda made: made.__name__)
@given(drawn=heads(), seed=st.integers(0, 2**32))
def test_it_is_so_for_weights_that_are_made_to_mislead(
    scores: Scores, made: Callable[[Drawn, torch.Generator], Drawn], drawn: Drawn, seed: int
) -> None:
    weight, states = made(drawn, torch.Generator().manual_seed(seed))
    assert GreedyHead(weight, scores).best(states) == full(weight, states)


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e30, float("inf"), float("nan")])
def test_it_is_so_for_states_of_any_size(scores: Scores, value: float) -> None:
    weight = torch.randn(100, 70, generator=torch.Generator().manual_seed(1))
    states = torch.full((1, 70), value)
    assert GreedyHead(weight, scores).best(states) == full(weight, states)


def test_rows_of_zeros_are_rows_as_others(scores: Scores) -> None:
    weight = torch.zeros(5, 64)
    weight[3] = -1
    assert GreedyHead(weight, scores).best(torch.ones(1, 64)) == [0]


def test_few_states_take_the_float32_head(scores: Scores) -> None:
    generator = torch.Generator().manual_seed(2)
    head = GreedyHead(torch.randn(20_000, 576, generator=generator), scores)
    states = torch.randn(4 * AT_ONCE, 576, generator=generator)
    head.best(states)
    assert head.decided_in_full <= len(states) // 4


@given(drawn=heads())
def test_a_score_is_off_by_no_more_than_its_slack(scores: Scores, drawn: Drawn) -> None:
    weight, states = drawn
    rows = Int8Rows.of(weight.numpy())
    some = states[:AT_ONCE].numpy()
    exact = some.astype(np.float64) @ weight.numpy().astype(np.float64).T
    lengths = np.linalg.norm(some.astype(np.float64), axis=1)[:, None]
    assert (np.abs(scores.of(rows, some) - exact) <= rows.slack * lengths).all()


def test_without_a_native_part_every_logit_is_computed(tmp_path: Path) -> None:
    assert load_scores(tmp_path) is None
    weight, states = torch.randn(50, 16), torch.randn(3, 16)
    head = GreedyHead(weight, None)
    assert head.best(states) == full(weight, states)
    assert head.decided_in_full == len(states)
