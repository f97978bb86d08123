"""Short steps in native code (native/kernel.cpp): the results of `eager` up to rounding, at the speed of memory."""

from __future__ import annotations

import ctypes
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from plumised.petals.fast.blocks import Activation, FusedBlock, Norm
from plumised.petals.fast.building import library
from plumised.petals.fast.coverage import KERNEL_ROWS
from plumised.petals.fast.parts import whole
from plumised.petals.fast.positions import Alibi, Rotary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from plumised.petals.fast.eager import Cache
    from plumised.petals.fast.parts import Parts

logger = logging.getLogger(__name__)

LIBRARIES: Final = Path(sys.prefix, "lib", "plumised")
"""Where the libraries stand in the engine's environment."""

_TYPES: Final = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.int8: 3, torch.uint8: 4}
_ACTIVATIONS: Final = {Activation.GATED_SILU: 0, Activation.GELU_TANH: 1, Activation.GELU: 2}


class _Shape(ctypes.Structure):
    """PlumisedShape."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("hidden", "heads", "kv_heads", "head_dim", "inner")),
        *((name, ctypes.c_int32) for name in ("grouped", "activation", "parallel", "cache")),
        *((name, ctypes.c_float) for name in ("attention_eps", "mlp_eps")),
        *((name, ctypes.c_void_p) for name in ("cos", "sin", "slopes")),
    )


class _Layer(ctypes.Structure):
    """PlumisedLayer."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("attention_norm", "attention_norm_bias", "mlp_norm", "mlp_norm_bias")),
        *((name, ctypes.c_void_p) for name in ("qkv", "out", "up", "down")),
        *((name, ctypes.c_void_p) for name in ("qkv_scales", "out_scales", "up_scales", "down_scales")),
        *((name, ctypes.c_void_p) for name in ("qkv_bias", "out_bias", "up_bias", "down_bias")),
        ("weights", ctypes.c_int32),
    )


class _Sequence(ctypes.Structure):
    """PlumisedSequence."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("length", "prefix", "capacity")),
        *((name, ctypes.POINTER(ctypes.c_void_p)) for name in ("keys", "values")),
    )


class Kernel:
    """The library for one instruction set, and the team of threads that computes.

    Steps are computed one at a time; the team starts with the first, in the process that asks for it.

    Attributes:
        capability: of the CPU that the library is for, as torch names it in small letters.

    Args:
        path: of the library, as `building.library` names it.
        threads: of the team, the caller's among them.

    Raises:
        OSError: the library cannot be loaded.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self.capability = path.stem.rpartition("-")[2]
        functions = ctypes.CDLL(str(path))
        functions.plumised_team_new.restype = ctypes.c_void_p
        functions.plumised_team_new.argtypes = [ctypes.c_int32]
        functions.plumised_team_delete.restype = None
        functions.plumised_team_delete.argtypes = [ctypes.c_void_p]
        functions.plumised_step.restype = ctypes.c_int32
        functions.plumised_step.argtypes = [
            *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32),
            *(ctypes.c_void_p, ctypes.c_int32, ctypes.c_void_p),
        ]
        self._functions = functions
        self._threads = threads
        self._team: int | None = None

    def close(self) -> None:
        """End the team's threads."""
        team, self._team = self._team, None
        if team is not None:
            self._functions.plumised_team_delete(team)

    def step(
        self,
        shape: ctypes.Structure,
        layers: ctypes.Array[ctypes.c_void_p],
        sequences: ctypes.Array[_Sequence],
        states: Tensor,
    ) -> None:
        """Compute one step in place, see plumised_step.

        Raises:
            MemoryError: there is no memory for it, or no thread.
        """
        if self._team is None:
            self._team = self._functions.plumised_team_new(self._threads)
        if self._team is None or self._functions.plumised_step(
            self._team, ctypes.byref(shape), layers, len(layers), sequences, len(sequences), states.data_ptr()
        ):
            raise MemoryError("no memory or no thread for the kernel")


@dataclass(frozen=True, slots=True, eq=False)
class SpanStep:
    """One step of one session through a span, as `eager.compute` takes it; contiguous caches.

    Attributes:
        hidden: [batch, length, hidden].
        caches: of the span's blocks.
        prefix: positions that earlier steps have filled.
    """

    hidden: Tensor
    caches: Sequence[Cache]
    prefix: int

    @property
    def rows(self) -> int:
        """Batch size times sequence length."""
        return self.hidden.shape[0] * self.hidden.shape[1]


class KernelSpan:
    """A span of blocks of one model, ready for the kernel.

    Args:
        kernel: computes.
        blocks: in order.
    """

    def __init__(self, kernel: Kernel, blocks: Sequence[FusedBlock]) -> None:
        first = blocks[0]
        self._kernel = kernel
        self._positions = first.positions
        # They own the memory that the kernel is given the addresses of.
        self._kept: list[object] = [blocks]
        self._shape = _Shape(
            hidden=first.qkv.inputs,
            heads=first.heads,
            kv_heads=first.kv_heads,
            head_dim=first.head_dim,
            inner=first.down.inputs,
            grouped=first.grouped,
            activation=_ACTIVATIONS[first.activation],
            parallel=first.parallel,
            cache=_TYPES[first.dtype],
            attention_eps=first.attention_norm.eps,
            mlp_eps=first.mlp_norm.eps,
        )
        layers = [self._layer(block) for block in blocks]
        self._kept.append(layers)
        self._layers = (ctypes.c_void_p * len(layers))(*(ctypes.addressof(layer) for layer in layers))

    def compute(self, hidden: Tensor, caches: Sequence[Cache], prefix: int) -> Tensor:
        """As `eager.compute`, for a batch of at most `KERNEL_ROWS`, in as many passes as it takes; contiguous caches.

        Raises:
            MemoryError: there is no memory for it, or no thread.
        """
        return whole(self.parts(SpanStep(hidden, caches, prefix)))

    def parts(self, step: SpanStep) -> Parts:
        """`compute`, a pass at a time."""
        batch, length, _ = step.hidden.shape
        if batch > KERNEL_ROWS:
            raise ValueError(f"{batch} sequences are more than the kernel takes")
        at_once = KERNEL_ROWS // batch
        passes = []
        for done in range(0, length, at_once):
            if done:
                yield
            part = SpanStep(step.hidden[:, done : done + at_once], step.caches, step.prefix + done)
            passes += self.compute_together([part])
        return torch.cat(passes, dim=1)

    def compute_together(self, steps: Sequence[SpanStep]) -> list[Tensor]:
        """The hidden states after each step, of `KERNEL_ROWS` rows in all, from one pass over the weights.

        What a step gives does not depend on the others, to the bit.

        Raises:
            MemoryError: there is no memory for it, or no thread.
        """
        if sum(step.rows for step in steps) > KERNEL_ROWS:
            raise ValueError("more rows than the kernel takes")
        match self._positions:
            case Rotary() as rotary:
                cos, sin = rotary.tables(max(step.prefix + step.hidden.shape[1] for step in steps))
                self._shape.cos, self._shape.sin = cos.data_ptr(), sin.data_ptr()
            case Alibi() as alibi:
                self._shape.slopes = alibi.slopes.data_ptr()
        sequences = [sequence for step in steps for sequence in _sequences(step)]
        rows = [step.hidden.reshape(step.rows, -1) for step in steps]
        # A copy in any case: the kernel computes in place.
        states = torch.cat(rows).float() if len(rows) > 1 else rows[0].to(torch.float32, copy=True)
        self._kernel.step(self._shape, self._layers, (_Sequence * len(sequences))(*sequences), states)
        results = torch.split(states.to(steps[0].hidden.dtype), [step.rows for step in steps])
        return [result.view(step.hidden.shape) for result, step in zip(results, steps, strict=True)]

    def _layer(self, block: FusedBlock) -> _Layer:
        return _Layer(
            *self._norm(block.attention_norm),
            *self._norm(block.mlp_norm),
            *(linear.weight.data_ptr() for linear in (block.qkv, block.out, block.up, block.down)),
            *(self._float(linear.scales) for linear in (block.qkv, block.out, block.up, block.down)),
            *(self._float(linear.bias) for linear in (block.qkv, block.out, block.up, block.down)),
            _TYPES[block.qkv.weight.dtype],
        )

    def _norm(self, norm: Norm) -> tuple[int | None, int | None]:
        return self._float(norm.weight), self._float(norm.bias)

    def _float(self, numbers: Tensor | None) -> int | None:
        if numbers is None:
            return None
        floats = numbers.float().contiguous()
        self._kept.append(floats)
        return floats.data_ptr()


def _sequences(step: SpanStep) -> list[_Sequence]:
    """The step's sequences, one for each of its batch."""
    batch, length, _ = step.hidden.shape
    capacity = step.caches[0][1].shape[2]
    keys, values = ([cache[which] for cache in step.caches] for which in (0, 1))
    return [_Sequence(length, step.prefix, capacity, _addresses(keys, i), _addresses(values, i)) for i in range(batch)]


def _addresses(tensors: list[Tensor], row: int) -> ctypes.Array[ctypes.c_void_p]:
    """Of one row of the batch in each tensor."""
    return (ctypes.c_void_p * len(tensors))(
        *(tensor.data_ptr() + row * tensor.stride(0) * tensor.element_size() for tensor in tensors)
    )


def load_kernel(threads: int, directory: Path = LIBRARIES) -> Kernel | None:
    """The kernel for this machine's CPU; None where there is none, which costs speed alone."""
    path = library(directory, torch.backends.cpu.get_cpu_capability())
    try:
        return Kernel(path, threads)
    except OSError as error:
        logger.info("Short steps are computed by torch: no kernel for this machine (%s)", error)
        return None
