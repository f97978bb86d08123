"""What this machine computes with: device, precision, and how many blocks it has room for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from petals.constants import DTYPE_MAP
from petals.server.block_utils import get_block_size
from petals.utils.convert_block import QuantType

from plumised.petals.failures import EngineError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from plumised.ipc.job import EngineJob

_SHARE_OF_MEMORY: Final = 0.6
"""Share of the available memory that the blocks may take on a CPU when the settings do not say how many."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the blocks are computed with.

    Attributes:
        device: as torch names it.
        dtype: as petals names it, `auto` for the one that the checkpoint asks for.
        by_petals: how Petals quantizes the weights.
        quantization: of the weights, by whomever; on a CPU by the fast path.
    """

    device: str
    dtype: str
    by_petals: QuantType
    quantization: QuantType


def choose_hardware(job: EngineJob) -> Hardware:
    """What the settings ask for, as far as this machine has it.

    Raises:
        EngineError: `device-missing`, `dtype-unsupported` or `quantization-unsupported`.
    """
    device = job.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    _check_device(device)
    quantization = QuantType[job.quantization.upper()]
    if device != "cpu":
        return Hardware(device, job.dtype, quantization, quantization)
    if quantization is not QuantType.NONE and not job.fast_path:
        raise EngineError(
            "quantization-unsupported",
            f"[engine] quantization = {job.quantization} needs a GPU or the fast path, and the device is {device}",
            'Set [engine] quantization = "none", or fast_path = true.',
            permanent=True,
        )
    if job.dtype == "float16":
        raise EngineError(
            "dtype-unsupported",
            "[engine] dtype = float16 needs a GPU, and the device is cpu",
            "Set [engine] dtype to float32 or bfloat16.",
            permanent=True,
        )
    # float32 gives the tokens that any other implementation gives.
    return Hardware(device, "float32" if job.dtype == "auto" else job.dtype, QuantType.NONE, quantization)


def blocks_that_fit(config: PretrainedConfig, dtype: str, quantization: QuantType, available_bytes: int) -> int:
    """How many blocks a machine without a GPU serves when it may choose: 1 to all of the model."""
    size = get_block_size(config, "memory", dtype=DTYPE_MAP[dtype], quant_type=quantization)
    return max(1, min(int(config.num_hidden_layers), int(available_bytes * _SHARE_OF_MEMORY // size)))


def _check_device(device: str) -> None:
    kind, _, number = device.partition(":")
    present = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if int(number or 0) >= present.get(kind, 0):
        raise EngineError(
            "device-missing",
            f"[engine] device = {device}, but this machine, or this build of torch, has no such device",
            'Set [engine] device = "cpu", or install a driver and an engine with CUDA.',
            permanent=True,
        )
