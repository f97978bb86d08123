"""Device, precision and number of blocks for what the settings ask and the machine has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from petals.models.bloom.config import DistributedBloomConfig
from petals.utils.convert_block import QuantType

from plumised.ipc.job import EngineJob
from plumised.petals.failures import EngineError
from plumised.petals.hardware import blocks_that_fit, choose_hardware

JOB = EngineJob("life-1", "/s", "/t", "/r", "/c", "/models/tiny", "/i", device="cpu")
CONFIG = DistributedBloomConfig(n_layer=24, hidden_size=64, n_head=4)
BLOCK_BYTES = sum(parameter.numel() for parameter in DistributedBloomConfig.block_class(CONFIG).parameters()) * 4

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.mark.parametrize(("dtype", "chosen"), [("auto", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_a_cpu_computes_in_float32_unless_told_otherwise(dtype: str, chosen: str) -> None:
    assert choose_hardware(replace(JOB, dtype=dtype)).dtype == chosen


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_on_a_cpu_the_fast_path_quantizes_and_petals_does_not(quantization: str) -> None:
    hardware = choose_hardware(replace(JOB, quantization=quantization))
    assert hardware.by_petals is QuantType.NONE
    assert hardware.quantization is QuantType[quantization.upper()]


@needs_no_gpu
def test_without_a_gpu_the_device_is_the_cpu() -> None:
    assert choose_hardware(replace(JOB, device="auto")).device == "cpu"


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"dtype": "float16"}, "dtype-unsupported", "[engine] dtype"),
        ({"quantization": "int8", "fast_path": False}, "quantization-unsupported", "[engine] quantization"),
        ({"quantization": "nf4", "fast_path": False}, "quantization-unsupported", "[engine] quantization"),
        ({"device": "cuda:99"}, "device-missing", "[engine] device"),
        ({"device": "mps"}, "device-missing", "[engine] device"),
        pytest.param({"device": "cuda"}, "device-missing", "[engine] device", marks=needs_no_gpu),
    ],
)
def test_what_the_machine_does_not_have_is_refused_for_good(changes: dict[str, Any], code: str, named: str) -> None:
    with pytest.raises(EngineError) as raised:
        choose_hardware(replace(JOB, **changes))
    failure = raised.value.failure
    assert (failure.code, failure.permanent) == (code, True)
    assert named in failure.message
    assert named in failure.remedy


@given(st.integers(0, 10**12))
def test_at_least_one_block_and_at_most_the_model_fits(available: int) -> None:
    assert 1 <= blocks_that_fit(CONFIG, "float32", QuantType.NONE, available) <= CONFIG.num_hidden_layers


@given(st.integers(2, 23))
def test_the_blocks_that_fit_leave_memory_for_the_rest(blocks: int) -> None:
    available = blocks * BLOCK_BYTES
    served = blocks_that_fit(CONFIG, "float32", QuantType.NONE, available)
    assert served * BLOCK_BYTES <= 0.7 * available or served == 1


@given(st.integers(0, 10**8), st.integers(0, 10**8))
def test_more_memory_never_means_fewer_blocks(one: int, other: int) -> None:
    less, more = sorted((one, other))
    fit_less = blocks_that_fit(CONFIG, "float32", QuantType.NONE, less)
    assert fit_less <= blocks_that_fit(CONFIG, "float32", QuantType.NONE, more)
    assert fit_less <= blocks_that_fit(CONFIG, "bfloat16", QuantType.NONE, less)
