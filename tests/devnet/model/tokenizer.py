"""The tokenizer of a GGUF file as tokenizer.json and tokenizer_config.json.

Written by hand: the `tokenizers` of the engine's environment is older than the development environment's and does
not read the files that the younger one saves (it wants merges as "left right", not as pairs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.devnet.model.checkpoint import Json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CONTROL = 3
"""gguf.TokenType.CONTROL: a token that no text is split into, only named."""


class Field(Protocol):
    """One entry of a GGUF file's header, as gguf.GGUFReader gives it."""

    def contents(self) -> object: ...


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A byte-level BPE vocabulary that splits digits (llama.cpp's pre-tokenizer `smollm`)."""

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    control: tuple[int, ...]
    unknown: int
    chat_template: str


def read_vocabulary(fields: Mapping[str, Field]) -> Vocabulary:
    """Take the vocabulary out of a GGUF header.

    Raises:
        ValueError: the file's tokenizer is of another kind.
    """
    kind = (fields["tokenizer.ggml.model"].contents(), fields["tokenizer.ggml.pre"].contents())
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"the tokenizer {kind} is not the one that this program can write")
    types = _items(fields["tokenizer.ggml.token_type"])
    return Vocabulary(
        tokens=tuple(str(token) for token in _items(fields["tokenizer.ggml.tokens"])),
        merges=tuple(str(merge) for merge in _items(fields["tokenizer.ggml.merges"])),
        control=tuple(index for index, kind in enumerate(types) if kind == _CONTROL),
        unknown=int(str(fields["tokenizer.ggml.unknown_token_id"].contents())),
        chat_template=str(fields["tokenizer.chat_template"].contents()),
    )


def _items(field: Field) -> list[object]:
    contents = field.contents()
    if not isinstance(contents, list):
        raise TypeError("a list was expected in the GGUF header")
    return contents


def write_tokenizer(directory: Path, vocabulary: Vocabulary, *, bos: int, eos: int, pad: int) -> None:
    """Write both files; `bos`, `eos` and `pad` are token numbers."""
    tokens = vocabulary.tokens
    byte_level: dict[str, Json] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    write_json(
        directory / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": index,
                    "content": tokens[index],
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for index in vocabulary.control
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
            },
            "post_processor": None,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": {token: index for index, token in enumerate(tokens)},
                "merges": list(vocabulary.merges),
            },
        },
    )
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": tokens[bos],
            "eos_token": tokens[eos],
            "pad_token": tokens[pad],
            "unk_token": tokens[vocabulary.unknown],
            "clean_up_tokenization_spaces": False,
            "chat_template": vocabulary.chat_template,
        },
    )
