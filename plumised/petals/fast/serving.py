"""Where Petals meets the fast path: backends that hold their block fused, and the step over a span of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from petals.server.backend import TransformerBackend, _MergedInferenceStep
from petals.utils.misc import is_dummy
from typing_extensions import override

from plumised.petals.failures import EngineError
from plumised.petals.fast import eager
from plumised.petals.fast.coverage import KERNEL_ROWS, Path, Request, choose
from plumised.petals.fast.fusing import fuse
from plumised.petals.fast.kernel import KernelSpan, SpanStep
from plumised.petals.fast.narrowing import narrow
from plumised.petals.fast.parts import whole
from plumised.petals.fast.quantizing import Kind, quantize, quantizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from petals.data_structures import InferenceMetadata

    from plumised.petals.fast.blocks import FusedBlock
    from plumised.petals.fast.kernel import Kernel
    from plumised.petals.fast.parts import Parts
    from plumised.petals.progress_counter import RuntimeProgress


class FusedBackend(TransformerBackend):
    """Petals' backend of one block, and the block as data where the fast path covers it.

    Attributes:
        fused: the block; None where it is not covered, and after `shutdown`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Before the handlers are forked: with the weights moved later, they would hold them a second time.
        shards = self.module.module_shards
        self.fused: FusedBlock | None = fuse(shards[0]) if len(shards) == 1 else None

    @override
    def shutdown(self) -> None:
        super().shutdown()
        self.fused = None


class NarrowBackend(FusedBackend):
    """A `FusedBackend` whose weights take half the memory where that changes no number.

    For where there is a kernel: torch widens such weights whenever it uses them, which makes short steps slow.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.fused is not None:
            self.fused = narrow(self.fused, self.module.module_shards[0])


class QuantizedBackend(FusedBackend):
    """A `FusedBackend` on a CPU whose weights are quantized. A subclass sets the class variable.

    Raises:
        EngineError: `quantization-unsupported`.
    """

    kind: ClassVar[Kind]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        shards = self.module.module_shards
        if any(parameter.device.type != "cpu" for parameter in shards[0].parameters()):
            # Petals quantizes there.
            return
        if self.fused is None or not quantizes(self.fused):
            raise EngineError(
                "quantization-unsupported",
                f"[engine] quantization = {self.kind.value}: on a CPU, blocks of this model cannot be quantized",
                'Set [engine] quantization = "none". What can be are Llama, BLOOM and Falcon (new architecture), of'
                " sizes that are multiples of 64.",
                permanent=True,
            )
        self.fused = quantize(self.fused, shards[0], self.kind)


def fast_backend(quantization: str, *, native: bool) -> type[FusedBackend]:
    """The class of backends for weights that are quantized so, as `EngineJob.quantization` says it.

    Args:
        quantization: of the weights.
        native: there is a kernel.
    """
    if quantization != "none":
        return type("QuantizedBackend", (QuantizedBackend,), {"kind": Kind(quantization)})
    return NarrowBackend if native else FusedBackend


def all_fused(backends: Iterable[TransformerBackend]) -> bool:
    """Whether the fast path covers the block of every one of them."""
    return all(isinstance(backend, FusedBackend) and backend.fused is not None for backend in backends)


def shortest_path(backends: Iterable[TransformerBackend], kernel: Kernel | None) -> str:
    """Who computes a plain step of one token through all of the backends, as `ipc.messages.State.path` has it.

    Args:
        backends: of the span.
        kernel: if there is one, and the fast path is on.
    """
    if not all_fused(backends):
        return Path.PETALS.value
    return Path.EAGER.value if kernel is None else f"{Path.KERNEL.value}-{kernel.capability}"


class FastInferenceStep(_MergedInferenceStep):
    """Petals' inference step over a span of `FusedBackend`s, computed by the fast path wherever that covers it.

    Args:
        backends: as Petals gives them.
        kernel: for short steps; None for torch alone.
        progress: where computed blocks are counted, as `ProgressBackend` does for Petals' own path.
    """

    def __init__(self, backends: dict[Any, FusedBackend], kernel: Kernel | None, progress: RuntimeProgress) -> None:
        super().__init__(backends)
        self._kernel = kernel
        self._progress = progress
        self._spans: dict[tuple[Any, ...], KernelSpan] = {}

    @override
    @torch.inference_mode()
    def __call__(
        self,
        hidden_states: torch.Tensor,
        hypo_ids: torch.Tensor,
        inference_infos: Sequence[InferenceMetadata],
        *optional_prompts: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        prepared = self.prepare(hidden_states, hypo_ids, inference_infos, *optional_prompts)
        if isinstance(prepared, Short):
            return tuple(compute_together([prepared]))
        return (whole(prepared),)

    def prepare(
        self,
        hidden_states: torch.Tensor,
        hypo_ids: torch.Tensor,
        inference_infos: Sequence[InferenceMetadata],
        *optional_prompts: torch.Tensor | None,
    ) -> Short | Parts:
        """How a step is computed: in one pass of the kernel, with others if there are any, or alone and in parts."""
        backends: list[FusedBackend] = [self.backends[info.uid] for info in inference_infos]
        blocks = [backend.fused for backend in backends if backend.fused is not None]
        handles = [handle for info in inference_infos for handle in info.cache_handles]
        with backends[0].memory_cache.use_cache(*handles) as tensors:
            caches = list(zip(tensors[::2], tensors[1::2], strict=True))
        prefix = inference_infos[0].prefix_length
        request = Request(
            batch=hidden_states.shape[0],
            rows=hidden_states.shape[0] * hidden_states.shape[1],
            columns=hidden_states.shape[2],
            fused=len(blocks) == len(backends) == len(caches),
            fits=fits(hidden_states, blocks, caches, prefix),
            native=self._kernel is not None,
            half=hidden_states.dtype != torch.float32,
            prompts=any(prompt is not None for prompt in optional_prompts),
            reorders=not is_dummy(hypo_ids),
            adapter=any(info.active_adapter for info in inference_infos),
        )
        path = choose(request)
        if path is Path.PETALS:
            return self._by_petals(hidden_states, hypo_ids, inference_infos, optional_prompts)
        step = SpanStep(hidden_states, caches, prefix)
        if path is Path.EAGER:
            # What fits into the memory that Petals has set aside for a step.
            longest = backends[0]._estimate_max_chunk_length(hidden_states, inference_infos[0])  # noqa: SLF001 -- as Petals' own step asks it
            return self._counted(_in_chunks(blocks, step, longest), len(blocks))
        span = self._span(tuple(info.uid for info in inference_infos), blocks)
        if request.rows <= KERNEL_ROWS:
            return Short(span, step, self._progress)
        return self._counted(span.parts(step), len(blocks))

    def _by_petals(
        self,
        hidden: torch.Tensor,
        hypo_ids: torch.Tensor,
        infos: Sequence[InferenceMetadata],
        prompts: Sequence[torch.Tensor | None],
    ) -> Parts:
        """What Petals computes, a block at a time."""
        for number, (info, prompt) in enumerate(zip(infos, prompts, strict=True)):
            if number:
                yield
            (hidden,) = super().__call__(hidden, hypo_ids, (info,), prompt)
        return hidden

    def _counted(self, parts: Parts, blocks: int) -> Parts:
        hidden = yield from parts
        self._progress.blocks += blocks
        return hidden

    def _span(self, uids: tuple[Any, ...], blocks: list[FusedBlock]) -> KernelSpan:
        span = self._spans.pop(uids, None)
        if span is None:
            if self._kernel is None:
                raise AssertionError("the kernel was chosen, and there is none")
            span = KernelSpan(self._kernel, blocks)
            if len(self._spans) >= _MOST_SPANS:
                # The one that was asked for longest ago. Peers choose the blocks of a session, in any order.
                del self._spans[next(iter(self._spans))]
        self._spans[uids] = span
        return span


@dataclass(frozen=True, slots=True, eq=False)
class Short:
    """A step that takes one pass of the kernel, which it can share with others of its span.

    Attributes:
        span: computes it.
        step: what is computed.
        progress: where its blocks are counted.
    """

    span: KernelSpan
    step: SpanStep
    progress: RuntimeProgress


def compute_together(steps: Sequence[Short]) -> list[torch.Tensor]:
    """The hidden states after each of some steps of one span, of `KERNEL_ROWS` rows in all, from one pass."""
    results = steps[0].span.compute_together([short.step for short in steps])
    for short in steps:
        short.progress.blocks += len(short.step.caches)
    return results


def fits(hidden: torch.Tensor, blocks: Sequence[FusedBlock], caches: Sequence[eager.Cache], prefix: int) -> bool:
    """Whether hidden states and caches have the shapes and types that the blocks take; they come from a stranger."""
    batch, length, size = hidden.shape
    return all(
        block.qkv.inputs == size
        and {hidden.dtype, keys.dtype, values.dtype} == {block.dtype}
        and keys.shape == (batch, block.kv_heads, block.head_dim, values.shape[2])
        and values.shape[:2] == keys.shape[:2]
        and values.shape[3] == block.head_dim
        and prefix + length <= values.shape[2]
        and keys.is_contiguous()
        and values.is_contiguous()
        for block, (keys, values) in zip(blocks, caches, strict=False)
    )


def _in_chunks(blocks: Sequence[FusedBlock], step: SpanStep, longest: int) -> Parts:
    """`eager.compute` in chunks of at most `longest` positions: the scores of long steps take much memory."""
    batch = step.hidden.shape[0]
    chunks = torch.split(step.hidden, min(longest, max(1, _ROWS_AT_ONCE // batch)), dim=1)
    results, done = [], 0
    for chunk in chunks:
        if done:
            yield
        results.append((yield from eager.parts(blocks, chunk, step.caches, step.prefix + done)))
        done += chunk.shape[1]
    return torch.cat(results, dim=1) if len(results) > 1 else results[0]


_MOST_SPANS: Final = 32

_ROWS_AT_ONCE: Final = 256
"""Rows of a part of a long step: enough for torch's matrix products, and what others' steps wait for."""
