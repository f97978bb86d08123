"""Where Petals meets the fast path: backends that hold their block fused, and the step over a span of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from petals.server.backend import TransformerBackend, _MergedInferenceStep
from petals.utils.misc import is_dummy
from typing_extensions import override

from plumised.petals.fast import eager
from plumised.petals.fast.coverage import Path, Request, choose
from plumised.petals.fast.fusing import fuse
from plumised.petals.fast.kernel import KernelSpan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from petals.data_structures import InferenceMetadata

    from plumised.petals.fast.blocks import FusedBlock
    from plumised.petals.fast.kernel import Kernel
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
        backends: list[FusedBackend] = [self.backends[info.uid] for info in inference_infos]
        blocks = [backend.fused for backend in backends if backend.fused is not None]
        handles = [handle for info in inference_infos for handle in info.cache_handles]
        with backends[0].memory_cache.use_cache(*handles) as tensors:
            caches = list(zip(tensors[::2], tensors[1::2], strict=True))
            request = Request(
                batch=hidden_states.shape[0],
                rows=hidden_states.shape[0] * hidden_states.shape[1],
                fused=len(blocks) == len(backends) == len(caches),
                fits=fits(hidden_states, blocks, caches, inference_infos[0].prefix_length),
                native=self._kernel is not None,
                prompts=any(prompt is not None for prompt in optional_prompts),
                reorders=not is_dummy(hypo_ids),
                adapter=any(info.active_adapter for info in inference_infos),
            )
            result = self._compute(choose(request), inference_infos, blocks, hidden_states, caches)
        if result is None:
            petals: tuple[torch.Tensor, ...] = super().__call__(
                hidden_states, hypo_ids, inference_infos, *optional_prompts
            )
            return petals
        self._progress.blocks += len(blocks)
        return (result,)

    def _compute(
        self,
        path: Path,
        infos: Sequence[InferenceMetadata],
        blocks: list[FusedBlock],
        hidden: torch.Tensor,
        caches: list[eager.Cache],
    ) -> torch.Tensor | None:
        """The hidden states after the span; None where Petals is to compute them."""
        prefix = infos[0].prefix_length
        match path:
            case Path.PETALS:
                return None
            case Path.KERNEL:
                return self._span(tuple(info.uid for info in infos), blocks).compute(hidden, caches, prefix)
            case Path.EAGER:
                backend = self.backends[infos[0].uid]
                # What fits into the memory that Petals has set aside for a step.
                longest: int = backend._estimate_max_chunk_length(hidden, infos[0])  # noqa: SLF001 -- as Petals' own step asks it
                return _in_chunks(blocks, hidden, caches, prefix, longest)

    def _span(self, uids: tuple[Any, ...], blocks: list[FusedBlock]) -> KernelSpan:
        if uids not in self._spans:
            if self._kernel is None:
                raise AssertionError("the kernel was chosen, and there is none")
            self._spans[uids] = KernelSpan(self._kernel, blocks)
        return self._spans[uids]


def fits(hidden: torch.Tensor, blocks: Sequence[FusedBlock], caches: Sequence[eager.Cache], prefix: int) -> bool:
    """Whether hidden states and caches have the shapes and types that the blocks take; they come from a stranger."""
    batch, length, size = hidden.shape
    return all(
        block.qkv.weight.shape[1] == size
        and {hidden.dtype, keys.dtype, values.dtype} == {block.qkv.weight.dtype}
        and keys.shape == (batch, block.kv_heads, block.head_dim, values.shape[2])
        and values.shape[:2] == keys.shape[:2]
        and values.shape[3] == block.head_dim
        and prefix + length <= values.shape[2]
        and keys.is_contiguous()
        and values.is_contiguous()
        for block, (keys, values) in zip(blocks, caches, strict=False)
    )


def _in_chunks(
    blocks: Sequence[FusedBlock], hidden: torch.Tensor, caches: Sequence[eager.Cache], prefix: int, longest: int
) -> torch.Tensor:
    """`eager.compute` in chunks of at most `longest` positions: the scores of long steps take much memory."""
    if hidden.shape[1] <= longest:
        return eager.compute(blocks, hidden, caches, prefix)
    results, done = [], 0
    for chunk in torch.split(hidden, longest, dim=1):
        results.append(eager.compute(blocks, chunk, caches, prefix + done))
        done += chunk.shape[1]
    return torch.cat(results, dim=1)
