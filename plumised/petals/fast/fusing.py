"""Takes a block that Petals has loaded apart, where it is one that `eager` and `kernel` compute.

The block keeps working: projections that are fused become views of the fused weights, so that no weight is held twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import torch
from petals.models.bloom.block import WrappedBloomBlock
from petals.models.falcon.block import WrappedFalconBlock
from petals.models.llama.block import WrappedLlamaBlock
from transformers.models.bloom.modeling_bloom import BloomGelu
from transformers.models.falcon.modeling_falcon import FalconLinear
from transformers.models.llama.modeling_llama import LlamaLinearScalingRotaryEmbedding, LlamaRotaryEmbedding

from plumised.petals.fast.blocks import Activation, FusedBlock, Linear, Norm
from plumised.petals.fast.positions import alibi, rotary

if TYPE_CHECKING:
    from collections.abc import Callable

DTYPES: Final = (torch.float32, torch.bfloat16)
"""The types of weights, activations and cache that are covered."""


def fuse(block: torch.nn.Module) -> FusedBlock | None:
    """The block as data, sharing its weights; None for a block that is not covered, which is left as it is.

    Covered are float32 and bfloat16 on the CPU, without quantization, adapters, tensor parallelism and dropout, of
    Llama (plain and linearly scaled rotary embeddings), BLOOM, and Falcon of the new architecture (40B, 180B).
    """
    make = _FAMILIES.get(type(block))
    if make is None or not _plain(block):
        return None
    with torch.no_grad():
        return make(block)


def _plain(block: torch.nn.Module) -> bool:
    parameters = list(block.parameters())
    dtype = parameters[0].dtype
    return (
        dtype in DTYPES
        and all(parameter.dtype == dtype and parameter.device.type == "cpu" for parameter in parameters)
        and all(type(module) in _LINEAR for module in block.modules() if isinstance(module, torch.nn.Linear))
        and all(not module.p for module in block.modules() if isinstance(module, torch.nn.Dropout))
    )


_LINEAR: Final = (torch.nn.Linear, FalconLinear)


def _llama(block: Any) -> FusedBlock | None:
    attention, mlp = block.self_attn, block.mlp
    embedding = attention.rotary_emb
    scaling = {
        LlamaRotaryEmbedding: 1.0,
        LlamaLinearScalingRotaryEmbedding: getattr(embedding, "scaling_factor", 1.0),
    }.get(type(embedding))
    if scaling is None or attention.config.hidden_act != "silu" or attention.config.pretraining_tp > 1:
        return None
    _share_tables(embedding)
    return FusedBlock(
        heads=attention.num_heads,
        kv_heads=attention.num_key_value_heads,
        head_dim=attention.head_dim,
        grouped=False,
        attention_norm=_rms_norm(block.input_layernorm),
        mlp_norm=_rms_norm(block.post_attention_layernorm),
        qkv=_join(attention.q_proj, attention.k_proj, attention.v_proj),
        out=_linear(attention.o_proj),
        up=_join(mlp.gate_proj, mlp.up_proj),
        down=_linear(mlp.down_proj),
        activation=Activation.GATED_SILU,
        parallel=False,
        positions=rotary(attention.head_dim, float(embedding.base), float(scaling)),
    )


def _bloom(block: Any) -> FusedBlock | None:
    attention, mlp = block.self_attention, block.mlp
    exact = attention.pretraining_tp > 1 and attention.slow_but_exact
    if exact or block.apply_residual_connection_post_layernorm or type(mlp.gelu_impl) is not BloomGelu:
        return None
    if block.training and (block.hidden_dropout or attention.hidden_dropout or mlp.hidden_dropout):
        return None
    return FusedBlock(
        heads=attention.num_heads,
        kv_heads=attention.num_heads,
        head_dim=attention.head_dim,
        grouped=True,
        attention_norm=_layer_norm(block.input_layernorm),
        mlp_norm=_layer_norm(block.post_attention_layernorm),
        qkv=_linear(attention.query_key_value),
        out=_linear(attention.dense),
        up=_linear(mlp.dense_h_to_4h),
        down=_linear(mlp.dense_4h_to_h),
        activation=Activation.GELU_TANH,
        parallel=False,
        positions=alibi(attention.num_heads),
    )


def _falcon(block: Any) -> FusedBlock | None:
    attention, mlp, config = block.self_attention, block.mlp, block.config
    if not config.new_decoder_architecture or not config.rotary or config.alibi or type(mlp.act) is not torch.nn.GELU:
        return None
    if block.training and (block.hidden_dropout or config.attention_dropout):
        return None
    return FusedBlock(
        heads=attention.num_heads,
        kv_heads=attention.num_kv_heads,
        head_dim=attention.head_dim,
        grouped=True,
        attention_norm=_layer_norm(block.ln_attn),
        mlp_norm=_layer_norm(block.ln_mlp),
        qkv=_linear(attention.query_key_value),
        out=_linear(attention.dense),
        up=_linear(mlp.dense_h_to_4h),
        down=_linear(mlp.dense_4h_to_h),
        activation=Activation.GELU,
        parallel=True,
        # Petals' rotary embedding of Falcon knows no other base.
        positions=rotary(attention.head_dim, 10000.0),
    )


_FAMILIES: Final[dict[type[torch.nn.Module], Callable[[Any], FusedBlock | None]]] = {
    WrappedLlamaBlock: _llama,
    WrappedBloomBlock: _bloom,
    WrappedFalconBlock: _falcon,
}


def _share_tables(embedding: Any) -> None:
    """Have the blocks of a model use the same tables of the rotation; upstream makes them for every block."""
    for name in ("cos_cached", "sin_cached"):
        own = getattr(embedding, name)
        shared = _TABLES.setdefault((name, embedding.base, tuple(own.shape), own.dtype), own)
        if torch.equal(shared, own):
            setattr(embedding, name, shared)


_TABLES: Final[WeakValueDictionary[object, torch.Tensor]] = WeakValueDictionary()


def _rms_norm(module: Any) -> Norm:
    return Norm(module.weight.data, None, float(module.variance_epsilon))


def _layer_norm(module: Any) -> Norm:
    return Norm(module.weight.data, module.bias.data, module.eps)


def _linear(module: Any) -> Linear:
    bias = None if module.bias is None else module.bias.data
    return Linear(module.weight.data.contiguous(), bias, bias_apart=type(module) is FalconLinear)


def _join(*modules: Any) -> Linear:
    """Several layers of the same input as one; theirs become views of its weights."""
    weight = torch.cat([module.weight.data for module in modules])
    for module, rows in zip(modules, torch.split(weight, [len(module.weight) for module in modules]), strict=True):
        module.weight.data = rows
    biases = [module.bias for module in modules]
    return Linear(weight, None if biases[0] is None else torch.cat([bias.data for bias in biases]))
