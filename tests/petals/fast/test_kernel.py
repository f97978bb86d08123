"""The kernel computes what the eager path computes."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plumised.petals.fast import eager
from plumised.petals.fast.building import INSTRUCTION_SETS, build, library
from plumised.petals.fast.coverage import KERNEL_ROWS
from plumised.petals.fast.fusing import fuse
from plumised.petals.fast.kernel import LIBRARIES, Kernel, KernelSpan, load_kernel
from tests.petals.fast.random_blocks import FAMILIES, Shape, config_of, empty_cache, make_block, shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plumised.petals.fast.blocks import FusedBlock

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def sessions(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A batch size, and lengths of steps: of one pass and of several."""
    batch = draw(st.integers(1, KERNEL_ROWS))
    return batch, draw(st.lists(st.integers(1, 40 // batch), min_size=1, max_size=6))


def spans(shape: Shape, blocks: int, dtype: torch.dtype, seed: int) -> list[FusedBlock]:
    result = [fuse(make_block(shape, dtype, seed + i)) for i in range(blocks)]
    return [block for block in result if block is not None]


def caches(
    shape: Shape, blocks: int, batch: int, capacity: int, dtype: torch.dtype
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [empty_cache(config_of(shape), batch, capacity, dtype) for _ in range(blocks)]


def both(
    kernel: Kernel, blocks: Sequence[FusedBlock], filled: Sequence[Any], hidden: torch.Tensor, prefix: int
) -> tuple[torch.Tensor, torch.Tensor, list[Any]]:
    """Eager's and the kernel's results, and the kernel's caches, from the same caches; eager's are `filled`."""
    own = [(keys.clone(), values.clone()) for keys, values in filled]
    with torch.inference_mode():
        wanted = eager.compute(blocks, hidden, filled, prefix)
        result = KernelSpan(kernel, blocks).compute(hidden, own, prefix)
    return wanted, result, own


@given(
    shape=shapes(),
    blocks=st.integers(1, 3),
    session=sessions(),
    start=st.integers(0, 80),
    room=st.integers(0, 40),
    seed=st.integers(0, 2**16),
)
@EXAMPLES
def test_float32_differs_by_rounding_only(
    kernel: Kernel, shape: Shape, blocks: int, session: tuple[int, list[int]], start: int, room: int, seed: int
) -> None:
    batch, lengths = session
    span = spans(shape, blocks, torch.float32, seed)
    generator = torch.Generator().manual_seed(seed)
    filled = caches(shape, blocks, batch, start + sum(lengths) + room, torch.float32)
    hidden = torch.randn(batch, start + sum(lengths), config_of(shape).hidden_size, generator=generator)
    if start:
        eager.compute(span, hidden[:, :start], filled, 0)
    prefix = start
    for length in lengths:
        chunk = hidden[:, prefix : prefix + length]
        before = chunk.clone()
        wanted, result, own = both(kernel, span, filled, chunk, prefix)
        # Sums of a few hundred terms in another order, through up to three blocks.
        torch.testing.assert_close(result, wanted, rtol=2e-4, atol=2e-5)
        for (keys, values), (wanted_keys, wanted_values) in zip(own, filled, strict=True):
            torch.testing.assert_close(keys, wanted_keys, rtol=2e-4, atol=2e-5)
            torch.testing.assert_close(values, wanted_values, rtol=2e-4, atol=2e-5)
        assert torch.equal(chunk, before)
        prefix += length


@given(shape=shapes(), session=sessions(), start=st.integers(0, 40), seed=st.integers(0, 2**16))
@EXAMPLES
def test_bfloat16_is_closer_to_the_exact_result_than_eager_is(
    kernel: Kernel, shape: Shape, session: tuple[int, list[int]], start: int, seed: int
) -> None:
    batch, lengths = session
    length = lengths[0]
    (block,) = spans(shape, 1, torch.bfloat16, seed)
    exact = fuse(make_block(shape, torch.bfloat16, seed).float())
    assert exact is not None
    generator = torch.Generator().manual_seed(seed)
    size = config_of(shape).hidden_size
    hidden = torch.randn(batch, start + length, size, generator=generator).bfloat16()
    filled = caches(shape, 1, batch, start + length, torch.bfloat16)
    with torch.inference_mode():
        if start:
            eager.compute([block], hidden[:, :start], filled, 0)
        widened = [(keys.float(), values.float()) for keys, values in filled]
        wanted = eager.compute([exact], hidden[:, start:].float(), widened, start)
        rounded, result, _ = both(kernel, [block], filled, hidden[:, start:], start)
    # The kernel rounds keys, values and its result only, the eager path after each operation.
    assert (result.float() - wanted).norm() <= (rounded.float() - wanted).norm() + 0.01 * wanted.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_real_widths_and_a_long_context(kernel: Kernel, family: str) -> None:
    shape = Shape(family, heads=9, kv_heads=9 if family == "bloom" else 3, head_dim=64, intermediate=1536, bias=True)
    span = spans(shape, 2, torch.float32, seed=3)
    filled = caches(shape, 2, 2, 1300, torch.float32)
    hidden = torch.randn(2, 1001, 576, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        eager.compute(span, hidden[:, :1000], filled, 0)
    wanted, result, _ = both(kernel, span, filled, hidden[:, 1000:], 1000)
    torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-4)


def test_scores_far_apart_do_not_overflow(kernel: Kernel) -> None:
    shape = Shape("llama", heads=4, kv_heads=2, head_dim=16, intermediate=40, bias=False)
    block = make_block(shape)
    block.self_attn.q_proj.weight.mul_(300)
    made = fuse(block)
    assert made is not None
    filled = caches(shape, 1, 1, 64, torch.float32)
    hidden = torch.randn(1, 41, 64, generator=torch.Generator().manual_seed(7))
    with torch.inference_mode():
        eager.compute([made], hidden[:, :40], filled, 0)
    wanted, result, _ = both(kernel, [made], filled, hidden[:, 40:], 40)
    torch.testing.assert_close(result, wanted, rtol=1e-3, atol=1e-3)


def test_more_sequences_than_it_takes_are_refused(kernel: Kernel) -> None:
    shape = Shape("llama", heads=2, kv_heads=1, head_dim=8, intermediate=20, bias=False)
    span = KernelSpan(kernel, spans(shape, 1, torch.float32, 0))
    hidden = torch.zeros(KERNEL_ROWS + 1, 1, 16)
    with pytest.raises(ValueError, match=f"{KERNEL_ROWS + 1} sequences"):
        span.compute(hidden, caches(shape, 1, KERNEL_ROWS + 1, 20, torch.float32), 0)


def test_a_team_ends_with_its_kernel_and_starts_again(kernel: Kernel) -> None:
    shape = Shape("llama", heads=2, kv_heads=1, head_dim=8, intermediate=20, bias=False)
    span = KernelSpan(kernel, spans(shape, 1, torch.float32, 0))
    hidden, cache = torch.ones(1, 1, 16), caches(shape, 1, 1, 4, torch.float32)
    first = span.compute(hidden, cache, 0)
    kernel.close()
    assert torch.equal(span.compute(hidden, cache, 0), first)


def test_a_waiting_team_takes_no_time(kernel: Kernel) -> None:
    shape = Shape("llama", heads=2, kv_heads=1, head_dim=8, intermediate=20, bias=False)
    span = KernelSpan(kernel, spans(shape, 1, torch.float32, 0))
    span.compute(torch.ones(1, 1, 16), caches(shape, 1, 1, 4, torch.float32), 0)
    before = {thread: _cpu_ticks(thread) for thread in _threads()}
    threading.Event().wait(0.5)
    mine = str(threading.get_native_id())
    spent = {thread: _cpu_ticks(thread) - ticks for thread, ticks in before.items() if thread != mine}
    # Half a second are 50 ticks; one may have begun before.
    assert all(ticks <= 1 for ticks in spent.values()), spent


def _threads() -> list[str]:
    return [path.name for path in Path("/proc/self/task").iterdir()]


def _cpu_ticks(thread: str) -> int:
    fields = Path("/proc/self/task", thread, "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_the_environment_s_kernel_is_the_one_for_this_cpu(libraries: Path) -> None:
    capability = torch.backends.cpu.get_cpu_capability()
    found = load_kernel(1, libraries)
    assert (found is not None) == (capability in INSTRUCTION_SETS)


def test_without_a_library_there_is_no_kernel(tmp_path: Path) -> None:
    assert load_kernel(1, tmp_path) is None


def test_what_is_up_to_date_is_not_built_again(libraries: Path) -> None:
    assert libraries == LIBRARIES
    assert build(libraries) == []


def test_a_library_of_another_source_is_built_again(tmp_path: Path) -> None:
    for capability in INSTRUCTION_SETS:
        library(tmp_path, capability).touch()
        library(tmp_path, capability).with_suffix(".key").write_text("of another source")
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path, compiler="false")
