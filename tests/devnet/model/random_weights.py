"""Random BLOOM and Llama checkpoints of any shape, the same for the same seed, written in well under a second.

The names of the tensors are the ones under which the published checkpoints have them: BLOOM's as BloomModel saves
them (`h.N.…`, `word_embeddings.weight`; the head is tied), Llama's as LlamaForCausalLM does (`model.layers.N.…`).
Weights are scaled so that a token's own embedding and all blocks together weigh about the same in the output: greedy
decoding goes through many tokens, and a block that computes something else changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tests.devnet.model.checkpoint import CONFIG, Floats, Json, Tensors, write_json, write_shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Draw:
    """Where the random numbers of one checkpoint come from."""

    generator: np.random.Generator

    def matrix(self, rows: int, columns: int, gain: float = 1.0) -> Floats:
        return self.generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(gain / columns**0.5)

    def embedding(self, rows: int, columns: int) -> Floats:
        return self.generator.standard_normal((rows, columns), dtype=np.float32)

    def signs(self, size: int) -> Floats:
        return self.generator.choice(np.array([-1, 1], dtype=np.float32), size)

    def around(self, centre: float, size: int) -> Floats:
        return np.float32(centre) + np.float32(0.02) * self.generator.standard_normal(size, dtype=np.float32)


def make_bloom(
    dest: Path,
    *,
    blocks: int = 24,
    hidden: int = 64,
    heads: int = 4,
    vocab: int = 256,
    seed: int = 0,
    blocks_per_file: int | None = None,
) -> Path:
    """Write a random BLOOM checkpoint into `dest` and return it.

    Args:
        dest: directory, made if missing.
        blocks: transformer blocks.
        hidden: width; a multiple of `heads`.
        heads: attention heads.
        vocab: tokens in the embedding.
        seed: the same seed and shape give the same bytes.
        blocks_per_file: None for one file, else an index and so many blocks per file.
    """
    _check_shape(hidden, heads)
    config: dict[str, Json] = {
        "architectures": ["BloomForCausalLM"],
        "model_type": "bloom",
        "n_layer": blocks,
        "hidden_size": hidden,
        "n_head": heads,
        "vocab_size": vocab,
        "seq_length": 2048,
        "layer_norm_epsilon": 1e-5,
        "apply_residual_connection_post_layernorm": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
        "unk_token_id": 0,
        "pretraining_tp": 1,
        "slow_but_exact": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    draw = _Draw(np.random.default_rng(seed))
    ends = {
        "word_embeddings.weight": draw.embedding(vocab, hidden),
        # The head is tied to the embedding, so without the signs each token would predict itself.
        "word_embeddings_layernorm.weight": draw.signs(hidden),
        "word_embeddings_layernorm.bias": draw.around(0, hidden),
        **_layer_norm(draw, "ln_f", hidden),
    }
    return _write(
        dest, config, ends, lambda index: _bloom_block(draw, index, hidden, blocks**-0.5), blocks, blocks_per_file
    )


def make_llama(
    dest: Path,
    *,
    blocks: int = 12,
    hidden: int = 64,
    heads: int = 4,
    key_value_heads: int | None = None,
    vocab: int = 256,
    seed: int = 0,
    blocks_per_file: int | None = None,
) -> Path:
    """Write a random Llama checkpoint into `dest` and return it.

    Args:
        dest: directory, made if missing.
        blocks: transformer blocks.
        hidden: width; a multiple of `heads`, and an even number per head (rotary embedding).
        heads: attention heads.
        key_value_heads: divides `heads`; None for as many as `heads`.
        vocab: tokens in the embedding.
        seed: the same seed and shape give the same bytes.
        blocks_per_file: None for one file, else an index and so many blocks per file.
    """
    _check_shape(hidden, heads)
    key_value_heads = heads if key_value_heads is None else key_value_heads
    if heads % key_value_heads or hidden // heads % 2:
        raise ValueError("key_value_heads must divide heads, and the width of a head must be even")
    inner = 2 * hidden
    config: dict[str, Json] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": blocks,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "vocab_size": vocab,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "pretraining_tp": 1,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
    }
    draw = _Draw(np.random.default_rng(seed))
    ends = {
        "model.embed_tokens.weight": draw.embedding(vocab, hidden),
        "model.norm.weight": draw.around(1, hidden),
        "lm_head.weight": draw.matrix(vocab, hidden),
    }
    narrow = hidden // heads * key_value_heads

    def block(index: int) -> Tensors:
        prefix = f"model.layers.{index}"
        return {
            f"{prefix}.input_layernorm.weight": draw.around(1, hidden),
            f"{prefix}.self_attn.q_proj.weight": draw.matrix(hidden, hidden),
            f"{prefix}.self_attn.k_proj.weight": draw.matrix(narrow, hidden),
            f"{prefix}.self_attn.v_proj.weight": draw.matrix(narrow, hidden),
            f"{prefix}.self_attn.o_proj.weight": draw.matrix(hidden, hidden, blocks**-0.5),
            f"{prefix}.post_attention_layernorm.weight": draw.around(1, hidden),
            f"{prefix}.mlp.gate_proj.weight": draw.matrix(inner, hidden),
            f"{prefix}.mlp.up_proj.weight": draw.matrix(inner, hidden),
            f"{prefix}.mlp.down_proj.weight": draw.matrix(hidden, inner, blocks**-0.5),
        }

    return _write(dest, config, ends, block, blocks, blocks_per_file)


def _bloom_block(draw: _Draw, index: int, hidden: int, gain: float) -> Tensors:
    prefix = f"h.{index}"
    narrowing = _linear(draw, f"{prefix}.mlp.dense_4h_to_h", hidden, 4 * hidden, gain)
    # GELU's outputs have a mean above zero, which would push every token into one direction.
    rows = narrowing[f"{prefix}.mlp.dense_4h_to_h.weight"]
    rows -= rows.mean(axis=1, keepdims=True)
    return {
        **narrowing,
        **_layer_norm(draw, f"{prefix}.input_layernorm", hidden),
        **_linear(draw, f"{prefix}.self_attention.query_key_value", 3 * hidden, hidden, 4.0),
        **_linear(draw, f"{prefix}.self_attention.dense", hidden, hidden, gain),
        **_layer_norm(draw, f"{prefix}.post_attention_layernorm", hidden),
        **_linear(draw, f"{prefix}.mlp.dense_h_to_4h", 4 * hidden, hidden),
    }


def _layer_norm(draw: _Draw, name: str, size: int) -> Tensors:
    return {f"{name}.weight": draw.around(1, size), f"{name}.bias": draw.around(0, size)}


def _linear(draw: _Draw, name: str, rows: int, columns: int, gain: float = 1.0) -> Tensors:
    return {f"{name}.weight": draw.matrix(rows, columns, gain), f"{name}.bias": draw.around(0, rows)}


def _check_shape(hidden: int, heads: int) -> None:
    if hidden % heads:
        raise ValueError(f"hidden ({hidden}) must be a multiple of heads ({heads})")


def _write(
    dest: Path,
    config: dict[str, Json],
    ends: Tensors,
    block: Callable[[int], Tensors],
    blocks: int,
    blocks_per_file: int | None,
) -> Path:
    dest.mkdir(parents=True, exist_ok=True)
    write_json(dest / CONFIG, config)
    step = blocks if blocks_per_file is None else blocks_per_file
    spans = [range(first, min(first + step, blocks)) for first in range(0, blocks, step)]

    def shards() -> Iterator[Tensors]:
        if blocks_per_file is not None:
            yield ends
        for span in spans:
            tensors = {} if blocks_per_file is not None else dict(ends)
            for index in span:
                tensors |= block(index)
            yield tensors

    write_shards(dest, shards(), 1 if blocks_per_file is None else len(spans) + 1)
    return dest
