"""Random blocks of every family that is covered, and the steps of a session through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from hypothesis import strategies as st
from petals.models.bloom import DistributedBloomConfig
from petals.models.falcon import DistributedFalconConfig
from petals.models.llama import DistributedLlamaConfig

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a random block.

    Attributes:
        heads: a multiple of `kv_heads`; families without groups make it the number of key-value heads as well.
    """

    family: str
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    bias: bool


FAMILIES: Final = ("llama", "bloom", "falcon")
DIMS: Final = (2, 4, 6, 8, 16, 32, 64)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kv_heads = draw(st.integers(1, 4))
    return Shape(
        family=draw(st.sampled_from(FAMILIES)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from(DIMS)),
        intermediate=draw(st.integers(1, 150)),
        bias=draw(st.booleans()),
    )


def config_of(shape: Shape, **changes: Any) -> Any:
    return _CONFIGS[shape.family](shape, **changes)


def make_block(
    shape: Shape,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    *,
    published: torch.dtype = torch.float32,
    **changes: Any,
) -> Any:
    """A block of Petals with weights that make every part of it matter, all of them numbers of the type `published`."""
    config = config_of(shape, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = config.block_class(config)
        for name, parameter in block.named_parameters():
            spread = 0.3 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
            parameter.data = torch.randn_like(parameter) * spread
            if "norm.weight" in name or "ln_" in name:
                parameter.data += 1
            parameter.data = parameter.data.to(published).float()
    return block.requires_grad_(False).to(dtype)


def empty_cache(config: Any, batch: int, capacity: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """As Petals' backend allocates it."""
    heads = config.num_attention_heads // config.num_key_value_groups
    dim = config.hidden_size // config.num_attention_heads
    return torch.zeros(batch, heads, dim, capacity, dtype=dtype), torch.zeros(batch, heads, capacity, dim, dtype=dtype)


def _llama(shape: Shape, **changes: Any) -> Any:
    return DistributedLlamaConfig(
        hidden_size=shape.heads * shape.head_dim,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=64,
        attention_bias=shape.bias,
        **changes,
    )


def _bloom(shape: Shape, **changes: Any) -> Any:
    return DistributedBloomConfig(hidden_size=shape.heads * shape.head_dim, n_head=shape.heads, **changes)


def _falcon(shape: Shape, **changes: Any) -> Any:
    settings = {
        "hidden_size": shape.heads * shape.head_dim,
        "num_attention_heads": shape.heads,
        "num_kv_heads": shape.kv_heads,
        "new_decoder_architecture": True,
        "bias": shape.bias,
    }
    return DistributedFalconConfig(**settings | changes)


_CONFIGS: Final[dict[str, Callable[..., Any]]] = {"llama": _llama, "bloom": _bloom, "falcon": _falcon}
