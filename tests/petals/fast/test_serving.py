"""Petals' backends give the same with the fast path as without, whatever is asked of them in whatever order."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch
from hivemind import BatchTensorDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from petals.data_structures import InferenceMetadata
from petals.server.backend import TransformerBackend, _MergedInferenceStep
from petals.server.memory_cache import MemoryCache
from petals.utils.convert_block import QuantType, convert_block

from plumised.petals.fast import eager
from plumised.petals.fast.kernel import load_kernel
from plumised.petals.fast.serving import FastInferenceStep, FusedBackend, NarrowBackend, shortest_path
from plumised.petals.progress_counter import RuntimeProgress
from tests.petals.fast.random_blocks import Shape, config_of, empty_cache, make_block, shapes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOTHING: Final = torch.empty(0)
NO_ORDER: Final = torch.empty(0, dtype=torch.int64)
BLOCKS: Final = 3
CAPACITY: Final = 64


@dataclass(frozen=True, slots=True)
class Ask:
    """One step of a session."""

    length: int
    first: int = 0
    last: int = BLOCKS
    prompts: bool = False
    reorders: bool = False


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    return Ask(
        length=draw(st.one_of(st.just(1), st.integers(1, 12))),
        prompts=draw(st.integers(0, 5)) == 0,
        reorders=draw(st.integers(0, 5)) == 0,
    )


class Served:
    """A span of backends and one session in it."""

    def __init__(self, backends: dict[str, TransformerBackend], step: Any, batch: int) -> None:
        self._backends = backends
        self._step = step
        self._prefix = 0
        cache = next(iter(backends.values())).memory_cache
        backend = next(iter(backends.values()))
        for i in range(len(backends)):
            tensors = empty_cache(backend.config, batch, CAPACITY, backend.dtype)
            cache._allocated_tensors |= {2 * i: tensors[0], 2 * i + 1: tensors[1]}
        self.cache = cache

    def close(self) -> None:
        for backend in self._backends.values():
            backend.shutdown()

    def ask(self, ask: Ask, hidden: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        names = list(self._backends)[ask.first : ask.last]
        infos = tuple(
            InferenceMetadata(name, self._prefix, (2 * i, 2 * i + 1), None)
            for i, name in enumerate(names, start=ask.first)
        )
        order = torch.arange(len(hidden)).flip(0) if ask.reorders else NO_ORDER
        prompts = [prompt if ask.prompts else None] * len(names)
        (result,) = self._step(hidden.clone(), order, infos, *prompts)
        self._prefix += ask.length
        answer: torch.Tensor = result
        return answer


def backends_of(
    kind: type[TransformerBackend],
    shape: Shape,
    *,
    dtype: torch.dtype = torch.float32,
    published: torch.dtype = torch.float32,
    chunk_bytes: int = 2**30,
) -> dict[str, Any]:
    """Backends of blocks that were published in one type and are served in another."""
    config, cache = config_of(shape), MemoryCache(None)
    schema = (BatchTensorDescriptor(1, 2048, config.hidden_size, dtype=dtype),)
    cpu = torch.device("cpu")
    return {
        f"test.{i}": kind(
            f"test.{i}",
            convert_block(make_block(shape, dtype, seed=i, published=published), i, config, [cpu], cpu, QuantType.NONE),
            config=config,
            memory_cache=cache,
            backend_dtype=dtype,
            max_chunk_size_bytes=chunk_bytes,
            args_schema=schema,
            kwargs_schema={},
            outputs_schema=schema,
            min_batch_size=1,
            max_batch_size=2048,
        )
        for i in range(BLOCKS)
    }


def fast(shape: Shape, batch: int, kernel: Any, **options: Any) -> tuple[Served, RuntimeProgress]:
    progress = RuntimeProgress()
    backends = backends_of(FusedBackend if kernel is None else NarrowBackend, shape, **options)
    return Served(backends, FastInferenceStep(backends, kernel, progress), batch), progress


def stock(shape: Shape, batch: int, **options: Any) -> Served:
    backends = backends_of(TransformerBackend, shape, **options)
    return Served(backends, _MergedInferenceStep(backends), batch)


@pytest.fixture(autouse=True)
def _closed_pipes() -> Iterator[None]:
    """Every backend has a dozen pipes, which close when it is collected."""
    yield
    gc.collect()


@pytest.fixture(scope="module", params=["kernel", "torch"])
def kernel(request: pytest.FixtureRequest, libraries: Path) -> Any:
    return load_kernel(2, libraries) if request.param == "kernel" else None


def compare(shape: Shape, batch: int, session: list[Ask], kernel: Any, seed: int, **options: Any) -> int:
    """Run one session with and without the fast path; the number of blocks that the fast path computed."""
    (ours, progress), petals = fast(shape, batch, kernel, **options), stock(shape, batch, **options)
    generator = torch.Generator().manual_seed(seed)
    size = config_of(shape).hidden_size
    for ask in session:
        hidden = torch.randn(batch, ask.length, size, generator=generator)
        prompt = torch.randn(batch, 1, size, generator=generator)
        wanted, result = petals.ask(ask, hidden, prompt), ours.ask(ask, hidden, prompt)
        torch.testing.assert_close(result, wanted, rtol=2e-4, atol=5e-5)
    for handle, tensor in petals.cache._allocated_tensors.items():
        torch.testing.assert_close(ours.cache._allocated_tensors[handle], tensor, rtol=2e-4, atol=5e-5)
    ours.close()
    petals.close()
    return progress.blocks


@given(
    shape=shapes(),
    batch=st.integers(1, 3),
    session=st.lists(asks(), min_size=1, max_size=5),
    published=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    chunk_bytes=st.sampled_from([1, 2000, 2**30]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_any_session_gives_what_petals_gives(
    kernel: Any,
    shape: Shape,
    batch: int,
    session: list[Ask],
    published: torch.dtype,
    chunk_bytes: int,
    seed: int,
) -> None:
    blocks = compare(shape, batch, session, kernel, seed, published=published, chunk_bytes=chunk_bytes)
    assert blocks == BLOCKS * sum(not (ask.prompts or ask.reorders) for ask in session)


LLAMA: Final = Shape("llama", heads=4, kv_heads=2, head_dim=8, intermediate=50, bias=False)


def test_any_part_of_the_span_can_be_asked_for(kernel: Any) -> None:
    for first, last in ((0, 1), (1, 3), (2, 3)):
        assert compare(LLAMA, 1, [Ask(5, first, last), Ask(1, first, last)], kernel, seed=1) == 2 * (last - first)


@pytest.mark.parametrize(
    ("batch", "hidden_size", "length"),
    [(2, 32, 1), (1, 31, 1), (1, 33, 1), (1, 32, CAPACITY + 1)],
    ids=["another batch size", "hidden states too short", "hidden states too long", "more than the cache holds"],
)
def test_what_does_not_fit_is_refused_as_petals_refuses_it(
    kernel: Any, batch: int, hidden_size: int, length: int
) -> None:
    served, progress = fast(LLAMA, 1, kernel)
    with pytest.raises(RuntimeError):
        served.ask(Ask(length), torch.zeros(batch, length, hidden_size), NOTHING)
    assert progress.blocks == 0


def test_however_many_spans_peers_ask_for_few_are_kept(libraries: Path) -> None:
    backends = backends_of(FusedBackend, LLAMA)
    step = FastInferenceStep(backends, load_kernel(2, libraries), RuntimeProgress())
    Served(backends, step, 1)
    if step._kernel is None:
        pytest.skip("there is no kernel for this CPU")
    for length in range(1, 100):
        infos = tuple(InferenceMetadata("test.0", 0, (0, 1), None) for _ in range(length))
        step(torch.zeros(1, 1, 32), NO_ORDER, infos, *[None] * length)
    assert len(step._spans) < 50


def test_a_span_takes_the_shortest_path_that_covers_all_of_its_blocks(kernel: Any) -> None:
    backends = list(backends_of(FusedBackend, LLAMA).values())

    whole = shortest_path(backends, kernel)
    backends[1].fused = None
    holed = shortest_path(backends, kernel)

    assert whole == ("eager" if kernel is None else f"kernel-{torch.backends.cpu.get_cpu_capability().lower()}")
    assert holed == "petals"


def test_a_block_that_is_not_covered_takes_petals_path(kernel: Any) -> None:
    served, progress = fast(LLAMA, 1, kernel)
    served._backends["test.1"].fused = None
    assert served.ask(Ask(1), torch.zeros(1, 1, 32), NOTHING).shape == (1, 1, 32)
    assert progress.blocks == 0


def test_an_active_adapter_takes_petals_path(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backends = backends_of(FusedBackend, LLAMA)
    step = FastInferenceStep(backends, kernel, RuntimeProgress())
    Served(backends, step, 1)
    result = torch.ones(1, 1, 32)
    monkeypatch.setattr(_MergedInferenceStep, "__call__", lambda *_: (result,))
    (given_back,) = step(torch.zeros(1, 1, 32), NO_ORDER, (InferenceMetadata("test.0", 0, (0, 1), "lora"),), None)
    assert given_back is result


def test_long_steps_are_computed_in_the_chunks_that_petals_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    parts = eager.parts

    def spy(blocks: Any, hidden: torch.Tensor, *rest: Any) -> Any:
        lengths.append(hidden.shape[1])
        return parts(blocks, hidden, *rest)

    monkeypatch.setattr(eager, "parts", spy)
    # Four heads, four bytes, forty positions: 640 bytes for each position of a chunk.
    served, _ = fast(LLAMA, 1, None, chunk_bytes=15 * 640)
    served.ask(Ask(40), torch.zeros(1, 40, 32), NOTHING)
    assert lengths == [15, 15, 10]


def test_a_backend_that_is_shut_down_holds_no_weights() -> None:
    (backend, *_) = backends_of(FusedBackend, LLAMA).values()
    assert backend.fused is not None
    backend.shutdown()
    assert backend.fused is None
