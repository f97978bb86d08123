"""How positions enter the attention: rotary tables and ALiBi slopes, made once and shared by all blocks."""

from __future__ import annotations

import functools
import math
from typing import Final

import torch

_TABLE_STEP: Final = 1024


class Rotary:
    """Tables of the rotation of queries and keys, as transformers computes them, grown as positions are asked for.

    Args:
        dim: values of a head.
        base: of the geometric series of frequencies.
        scaling: by which positions are divided.
    """

    def __init__(self, dim: int, base: float, scaling: float) -> None:
        self._inv_freq = 1.0 / (base ** (torch.arange(0, dim, 2).float() / dim))
        self._scaling = scaling
        self._cos = self._sin = torch.empty(0, dim)

    def tables(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines, float32, [at least `positions`, dim]; both halves of a row are equal."""
        if positions > len(self._cos):
            length = -(-positions // _TABLE_STEP) * _TABLE_STEP
            # Not an inference tensor: whoever asks first must not decide where the tables can be used.
            with torch.inference_mode(mode=False):
                at = torch.arange(length, dtype=self._inv_freq.dtype) / self._scaling
                angles = torch.outer(at, self._inv_freq)
                angles = torch.cat((angles, angles), dim=-1)
                self._cos, self._sin = angles.cos(), angles.sin()
        return self._cos, self._sin


class Alibi:
    """Attention with linear biases: a score grows by the head's slope with each position of the key.

    Args:
        heads: of the queries.
    """

    def __init__(self, heads: int) -> None:
        self.slopes = _slopes(heads)
        self._biases = torch.empty(heads, 1, 0)

    def biases(self, positions: int) -> torch.Tensor:
        """The biases of keys at positions from 0 on, float32, [heads, 1, at least `positions`]."""
        if positions > self._biases.shape[-1]:
            length = -(-positions // _TABLE_STEP) * _TABLE_STEP
            with torch.inference_mode(mode=False):
                self._biases = (self.slopes[:, None] * torch.arange(length, dtype=torch.float32))[:, None]
        return self._biases


@functools.cache
def rotary(dim: int, base: float, scaling: float = 1.0) -> Rotary:
    """The tables for these parameters, one instance for all blocks."""
    return Rotary(dim, base, scaling)


@functools.cache
def alibi(heads: int) -> Alibi:
    """The biases for this number of heads, one instance for all blocks."""
    return Alibi(heads)


def _slopes(heads: int) -> torch.Tensor:
    """One slope per head, in the order and precision of transformers' `build_alibi_tensor`."""
    power = 2 ** math.floor(math.log2(heads))
    base = torch.tensor(2 ** (-(2 ** -(math.log2(power) - 3))), dtype=torch.float32)
    slopes = torch.pow(base, torch.arange(1, 1 + power, dtype=torch.int32))
    if power != heads:
        between = torch.tensor(2 ** (-(2 ** -(math.log2(2 * power) - 3))), dtype=torch.float32)
        rest = min(power, heads - power)
        slopes = torch.cat([slopes, torch.pow(between, torch.arange(1, 1 + 2 * rest, 2, dtype=torch.int32))])
    return slopes
