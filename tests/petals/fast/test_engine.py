"""A real engine computes by the fast path, or does not, as its job says; what it serves is the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hivemind import DHT
from petals.server.from_pretrained import load_pretrained_block
from petals.utils.dht import get_remote_module_infos

from plumised.petals.fast.fusing import fuse
from plumised.petals.fast.quantizing import Kind, quantize
from tests.petals.client import Kept, SwarmClient
from tests.petals.conftest import BLOCKS
from tests.petals.engine_process import EngineProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STEPS = (5, 1, 1, 70, 1)
BATCH = 2
KERNEL = f"kernel-{torch.backends.cpu.get_cpu_capability().lower()}"


@pytest.fixture(params=["bloom", "llama"])
def model(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(params=[True, False], ids=["fast path", "petals' path"])
def engine(request: pytest.FixtureRequest, model: Path) -> Iterator[EngineProcess]:
    with EngineProcess(model, first_block=0, last_block=BLOCKS, fast_path=request.param, threads=2) as engine:
        engine.online()
        yield engine


def test_a_session_gives_what_the_model_s_blocks_give(engine: EngineProcess, model: Path, tmp_path: Path) -> None:
    kept = [Kept(tmp_path / f"step-{number}") for number in range(len(STEPS))]
    with SwarmClient(model, engine.online().addresses, tmp_path / "log") as client:
        client.open("session", max_length=128)
        for length, keep in zip(STEPS, kept, strict=True):
            client.step("session", batch=BATCH, length=length, keep=keep)
        client.close("session")
    states = torch.cat([_states(keep.sent) for keep in kept], dim=1)
    received = torch.cat([_states(keep.received) for keep in kept], dim=1)
    with torch.inference_mode():
        for index in range(BLOCKS):
            block = load_pretrained_block(str(model), index, torch_dtype=torch.float32)
            # Alone: without a past, Petals' Llama takes a single sequence only.
            states = torch.cat([block(sequence[None])[0] for sequence in states])
    # Small elements are sums of large ones: these random weights spread the states to 16, and float32 in another order
    # is off by 1.7e-4 there, by 1.4e-4 on Petals' own path.
    torch.testing.assert_close(received, states, rtol=1e-4, atol=6e-5 * float(states.abs().max()))
    assert _has_kernel(engine) == engine.job.fast_path
    assert engine.online().path == (KERNEL if engine.job.fast_path else "petals")


@pytest.mark.parametrize("kind", list(Kind))
def test_a_quantized_session_gives_what_the_quantized_blocks_give(model: Path, tmp_path: Path, kind: Kind) -> None:
    lengths, kept = (5, 1, 1), [Kept(tmp_path / f"step-{number}") for number in range(3)]
    with EngineProcess(model, first_block=0, last_block=BLOCKS, threads=2, quantization=kind.value) as engine:
        with SwarmClient(model, engine.online().addresses, tmp_path / "log") as client:
            client.open("session", max_length=16)
            for length, keep in zip(lengths, kept, strict=True):
                client.step("session", batch=BATCH, length=length, keep=keep)
            client.close("session")
        assert _announced(engine.online().addresses) == {kind.value}
        assert engine.online().quantization == kind.value
    states = torch.cat([_states(keep.sent) for keep in kept], dim=1)
    received = torch.cat([_states(keep.received) for keep in kept], dim=1)
    with torch.inference_mode():
        for index in range(BLOCKS):
            block = load_pretrained_block(str(model), index, torch_dtype=torch.float32)
            fused = fuse(block)
            assert fused is not None
            quantize(fused, block, kind)
            states = torch.cat([block(sequence[None])[0] for sequence in states])
    torch.testing.assert_close(received, states, rtol=1e-4, atol=6e-5 * float(states.abs().max()))


def _announced(peers: Sequence[str]) -> set[str | None]:
    """How the servers of the model's blocks say that these are quantized."""
    dht = DHT(initial_peers=peers, client_mode=True, start=True)
    try:
        uids = [f"test.{block}" for block in range(BLOCKS)]
        infos = get_remote_module_infos(dht, uids, latest=True)
        return {server.quant_type for info in infos for server in info.servers.values()}
    finally:
        dht.shutdown()


def _states(values: bytes) -> torch.Tensor:
    return torch.tensor(np.frombuffer(values, "<f4")).view(BATCH, -1, 64)


def _has_kernel(engine: EngineProcess) -> bool:
    maps = Path(f"/proc/{engine.pid}/maps").read_text()
    return "/lib/plumised/span-" in maps
