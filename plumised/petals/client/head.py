"""The logits head, for greedy decoding: the token that float32 logits put first, from a quarter of the memory traffic.

Weights in int8 give every logit up to an error whose bound is known. The rows that can be the largest within these
bounds, usually few, are computed again in float64. Where two of them are closer than what float32 sums of another order
can differ by, and where nearly every row is left, the float32 head itself decides: the answer is always its own.
"""

from __future__ import annotations

import ctypes
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from plumised.petals.fast.building import library
from plumised.petals.fast.kernel import LIBRARIES

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float32]

AT_ONCE: Final = 8
"""States that share one pass over the weights."""

_GROUP: Final = 64
"""Weights of a row that share a scale, as head.cpp has it."""

_ROUNDING: Final = 2.0**-24
"""Largest relative error of one float32 operation."""

_QUANTIZED_AT_ONCE: Final = 8192


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """A matrix of float32 weights as int8.

    Attributes:
        weights: [rows, width], each group in the order of head.cpp; the width is that of the matrix, filled up with
            zeros to whole groups.
        scales: [rows, width / 64].
        slack: [rows]; by this times the length of an input, a score and the float32 logit each differ from the true
            product at most.
    """

    weights: NDArray[np.int8]
    scales: Floats
    slack: Floats

    @classmethod
    def of(cls, matrix: Floats) -> Int8Rows:
        """Quantize."""
        rows, inputs = matrix.shape
        groups = -(-inputs // _GROUP)
        weights = np.zeros((rows, groups * _GROUP), np.int8)
        scales = np.ones((rows, groups), np.float32)
        slack = np.empty(rows, np.float32)
        for first in range(0, rows, _QUANTIZED_AT_ONCE):
            some = slice(first, first + _QUANTIZED_AT_ONCE)
            exact = matrix[some]
            padded = np.zeros((len(exact), groups, _GROUP), np.float32)
            padded.reshape(len(exact), -1)[:, :inputs] = exact
            scale = np.abs(padded).max(axis=2) / np.float32(127)
            # A group of zeros, or of so little that its scale is none.
            scale[scale < np.finfo(np.float32).tiny] = 1
            scales[some] = scale
            rounded = np.rint(padded / scale[:, :, None])
            weights[some] = rounded.reshape(len(exact), groups, 4, 16).swapaxes(2, 3).reshape(len(exact), -1)
            error = padded.astype(np.float64) - rounded * scale[:, :, None].astype(np.float64)
            slack[some] = np.linalg.norm(error.reshape(len(exact), -1), axis=1) + _rounding(inputs) * (
                np.linalg.norm(exact.astype(np.float64), axis=1)
                + np.linalg.norm(rounded * scale[:, :, None], axis=(1, 2))
            )
        return cls(weights, scales, np.nextafter(slack, np.float32(np.inf)))


class Scores:
    """The native part, see head.cpp.

    Args:
        path: of the library.
        threads: that compute.

    Raises:
        OSError: the library cannot be loaded.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._threads = threads
        self._function = ctypes.CDLL(str(path)).plumised_scores
        self._function.restype = None
        self._function.argtypes = [
            *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32),
            *(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int32),
        ]

    def of(self, rows: Int8Rows, states: Floats) -> Floats:
        """Scores [states, rows] of at most `AT_ONCE` states [states, inputs]."""
        height, width = rows.weights.shape
        padded = np.zeros((len(states), width), np.float32)
        padded[:, : states.shape[1]] = states
        out = np.empty((len(states), height), np.float32)
        self._function(
            *(rows.weights.ctypes.data, rows.scales.ctypes.data, width, padded.ctypes.data, len(states)),
            *(height, out.ctypes.data, self._threads),
        )
        return out


class GreedyHead:
    """Finds the token with the largest float32 logit.

    Not for several threads at once.

    Args:
        weight: float32, [vocabulary, hidden size]; without a bias.
        scores: computes with int8; None to compute every float32 logit.
    """

    def __init__(self, weight: torch.Tensor, scores: Scores | None) -> None:
        self._weight = weight.detach().float().contiguous()
        self._matrix: Floats = self._weight.numpy()
        self._scores = scores
        self._rows = None if scores is None else Int8Rows.of(self._matrix)
        self.decided_in_full = 0
        """How many states took the float32 head."""

    def best(self, states: torch.Tensor) -> list[int]:
        """The tokens for states [states, hidden size]; of equal logits the first."""
        given: Floats = states.detach().to(torch.float32).contiguous().numpy()
        found: list[int] = []
        for first in range(0, len(given), AT_ONCE):
            found += self._best(given[first : first + AT_ONCE])
        return found

    def _best(self, states: Floats) -> list[int]:
        if self._scores is None or self._rows is None:
            return [self._in_full(state) for state in states]
        scores = self._scores.of(self._rows, states)
        return [self._decide(state, row, self._rows) for state, row in zip(states, scores, strict=True)]

    def _decide(self, state: Floats, scores: Floats, rows: Int8Rows) -> int:
        exact = state.astype(np.float64)
        length = float(np.linalg.norm(exact))
        # Beyond these, squares leave the range of float32; and what is not a number is nobody's largest.
        if not _SMALLEST < length < _LARGEST:
            return self._in_full(state)
        slack = rows.slack * np.float32(length * (1 + 1e-5))
        candidates = np.flatnonzero(scores + slack >= (scores - slack).max())
        if not 0 < len(candidates) <= _MOST_CANDIDATES:
            return self._in_full(state)
        products = self._matrix[candidates].astype(np.float64) * exact
        logits = products.sum(axis=1)
        doubt = _rounding(len(state)) * np.abs(products).sum(axis=1)
        leader = int(logits.argmax())
        rivals = logits + doubt
        rivals[leader] = -np.inf
        if not logits[leader] - doubt[leader] > rivals.max():
            return self._in_full(state)
        return int(candidates[leader])

    def _in_full(self, state: Floats) -> int:
        self.decided_in_full += 1
        with torch.inference_mode():
            return int(torch.nn.functional.linear(torch.from_numpy(state)[None], self._weight)[0].argmax())


_SMALLEST: Final = 1e-15
_LARGEST: Final = 1e15
_THREADS: Final = 2
"""While a token is looked for, the servers of its session have nothing to do. One thread got 19 GB/s of a memory that
delivers 33 to two."""
_MOST_CANDIDATES: Final = 1024
"""Beyond, gathering their weights takes as long as the whole head."""


def _rounding(terms: int) -> float:
    """By how much, relative to the sum of its terms' sizes, a float32 sum of products is off at most; twice that."""
    return 2 * (terms + 16) * _ROUNDING


def load_scores(directory: Path = LIBRARIES) -> Scores | None:
    """The native part for this machine's CPU; None where there is none, which costs speed alone."""
    path = library(directory, torch.backends.cpu.get_cpu_capability(), "head")
    try:
        return Scores(path, min(_THREADS, len(os.sched_getaffinity(0))))
    except OSError as error:
        logger.info("Logits are computed by torch: no native head for this machine (%s)", error)
        return None
