"""Who computes a step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plumised.petals.fast.coverage import (
    KERNEL_ROWS,
    LARGEST_FOR_KERNEL,
    LARGEST_IN_HALF,
    Path,
    Request,
    choose,
    covers,
)

COLUMNS, NARROW = 4096, 512
PLAIN = Request(
    batch=1,
    rows=1,
    columns=COLUMNS,
    fused=True,
    fits=True,
    native=True,
    half=False,
    prompts=False,
    reorders=False,
    adapter=False,
)
HALF = replace(PLAIN, half=True)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(replace(PLAIN, rows=0), id="no token"),
        pytest.param(replace(PLAIN, fused=False), id="a block that is not fused"),
        pytest.param(replace(PLAIN, fits=False), id="shapes that the blocks do not take"),
        pytest.param(replace(PLAIN, prompts=True), id="prompts"),
        pytest.param(replace(PLAIN, reorders=True), id="beam search"),
        pytest.param(replace(PLAIN, adapter=True), id="an adapter"),
    ],
)
def test_petals_computes_what_is_not_covered(request_: Request) -> None:
    assert not covers(request_)
    assert choose(request_) is Path.PETALS


def test_the_kernel_computes_short_steps() -> None:
    assert choose(PLAIN) is Path.KERNEL
    assert choose(replace(PLAIN, rows=LARGEST_FOR_KERNEL // COLUMNS)) is Path.KERNEL
    assert choose(replace(HALF, rows=LARGEST_IN_HALF // NARROW, columns=NARROW)) is Path.KERNEL
    assert choose(replace(HALF, rows=KERNEL_ROWS, columns=LARGEST_FOR_KERNEL)) is Path.KERNEL
    assert choose(replace(PLAIN, batch=KERNEL_ROWS, rows=KERNEL_ROWS)) is Path.KERNEL


def test_torch_computes_long_and_broad_steps() -> None:
    assert choose(replace(PLAIN, rows=LARGEST_FOR_KERNEL // COLUMNS + 1)) is Path.EAGER
    assert choose(replace(HALF, rows=LARGEST_IN_HALF // NARROW + 1, columns=NARROW)) is Path.EAGER
    assert choose(replace(HALF, rows=KERNEL_ROWS + 1)) is Path.EAGER
    assert choose(replace(PLAIN, batch=KERNEL_ROWS + 1, rows=KERNEL_ROWS + 1)) is Path.EAGER


def test_torch_computes_what_the_kernel_cannot() -> None:
    assert choose(replace(PLAIN, native=False)) is Path.EAGER
