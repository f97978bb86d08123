"""What a client computes itself: the embedding before the blocks, the norm after them, and the weights of the head."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.utils import cached_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import PretrainedConfig

_INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"


class UnsupportedModelError(Exception):
    """The model's family or files are none that this client knows."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a family's checkpoints call its ends.

    Attributes:
        embedding: of the tokens.
        embedding_norm: applied to the embedding; None for none.
        norm: after the last block.
        head: None where it is always the embedding.
        rms: the norm is an RMS norm, without a bias.
        epsilon: of the norms, in the configuration.
    """

    embedding: str
    embedding_norm: str | None
    norm: str
    head: str | None
    rms: bool
    epsilon: str


_FAMILIES: Final = {
    "bloom": _Names("word_embeddings", "word_embeddings_layernorm", "ln_f", None, False, "layer_norm_epsilon"),
    "falcon": _Names("transformer.word_embeddings", None, "transformer.ln_f", "lm_head", False, "layer_norm_epsilon"),
    "llama": _Names("model.embed_tokens", None, "model.norm", "lm_head", True, "rms_norm_eps"),
}


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of one model, in float32 on the CPU.

    Attributes:
        embed: ids [tokens] to the hidden states [1, tokens, hidden size] that the first block takes.
        norm: hidden states of the last block to those that the head takes, of any shape [..., hidden size].
        head: weight of the logits head, [vocabulary, hidden size].
        stop: the tokens that end a text.
    """

    embed: Callable[[torch.Tensor], torch.Tensor]
    norm: Callable[[torch.Tensor], torch.Tensor]
    head: torch.Tensor
    stop: frozenset[int]


def load_ends(model: str, config: PretrainedConfig, *, revision: str | None = None) -> Ends:
    """Load the ends of a model from its checkpoint in safetensors.

    Args:
        model: directory, or name on the hub.
        config: of the model.
        revision: on the hub.

    Raises:
        UnsupportedModelError: of its family, or of what is not in its files.
        OSError: a file cannot be had.
    """
    names = _FAMILIES.get(config.model_type)
    if names is None:
        raise UnsupportedModelError(f"a model of type {config.model_type}; known are {', '.join(sorted(_FAMILIES))}")
    wanted = [name for name in (names.embedding, names.embedding_norm, names.norm, names.head) if name is not None]
    tensors = dict(_tensors(model, revision, wanted))

    def tensor(name: str) -> torch.Tensor:
        if name not in tensors:
            raise UnsupportedModelError(f"{model} has no {name}")
        return tensors[name]

    def norm(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        weight = tensor(f"{name}.weight")
        epsilon = float(getattr(config, names.epsilon))
        if names.rms:
            module = LlamaRMSNorm(len(weight), epsilon)
            module.weight = torch.nn.Parameter(weight, requires_grad=False)
            compute: Callable[[torch.Tensor], torch.Tensor] = module
            return compute
        bias = tensor(f"{name}.bias")
        return lambda states: torch.nn.functional.layer_norm(states, weight.shape, weight, bias, epsilon)

    embedding = tensor(f"{names.embedding}.weight")
    embedding_norm = norm(names.embedding_norm) if names.embedding_norm is not None else None

    def embed(ids: torch.Tensor) -> torch.Tensor:
        states = embedding[ids][None]
        return states if embedding_norm is None else embedding_norm(states)

    head = embedding if names.head is None else tensors.get(f"{names.head}.weight")
    if head is None:
        if not config.tie_word_embeddings:
            raise UnsupportedModelError(f"{model} has no {names.head}")
        head = embedding
    return Ends(embed, norm(names.norm), head, frozenset(_stop(model, config, revision)))


def _tensors(model: str, revision: str | None, modules: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of modules, as float32."""
    index = _file(model, _INDEX, revision)
    if index is not None:
        placed: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {file for name, file in placed.items() if name.rpartition(".")[0] in modules}
    else:
        files = {_SINGLE}
    for file in sorted(files):
        path = _file(model, file, revision)
        if path is None:
            raise UnsupportedModelError(f"{model} has no {file}; only checkpoints in safetensors are read")
        with safe_open(path, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118 -- no dictionary
                if name.rpartition(".")[0] in modules:
                    yield name, content.get_tensor(name).float()


def _stop(model: str, config: PretrainedConfig, revision: str | None) -> list[int]:
    """As transformers finds it: from the settings for generation, else from the model's."""
    settings = _file(model, "generation_config.json", revision)
    found: Any = None
    if settings is not None:
        found = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id")
    if found is None:
        found = config.eos_token_id
    if found is None:
        return []
    return [int(token) for token in found] if isinstance(found, list) else [int(found)]


def _file(model: str, name: str, revision: str | None) -> Path | None:
    """A file of the model; None if the model has none of this name."""
    found = cached_file(
        model,
        name,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)
