"""The kernel as the environment has it, built anew where its source has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from plumised.petals.fast.building import INSTRUCTION_SETS, build, library
from plumised.petals.fast.kernel import LIBRARIES, Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def libraries() -> Path:
    build(LIBRARIES)
    return LIBRARIES


def runnable() -> list[str]:
    """The instruction sets that this CPU has; the list is from the greatest to the least."""
    names = list(INSTRUCTION_SETS)
    capability = torch.backends.cpu.get_cpu_capability()
    return names[names.index(capability) :] if capability in names else []


TEAMS = [(name, threads) for name, sizes in zip(runnable(), ((1, 3), (2,)), strict=False) for threads in sizes]


@pytest.fixture(scope="module", params=TEAMS, ids=str)
def kernel(request: pytest.FixtureRequest, libraries: Path) -> Iterator[Kernel]:
    """Every instruction set that this CPU has, with teams of one, of two, and of more threads than cores."""
    capability, threads = request.param
    made = Kernel(library(libraries, capability), threads)
    yield made
    made.close()
