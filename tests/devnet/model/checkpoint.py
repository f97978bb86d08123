"""A checkpoint on disk: config.json and safetensors files, several of them with an index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.floating]]
Tensors: TypeAlias = "dict[str, Floats]"

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CONFIG = "config.json"

_METADATA = {"format": "pt"}
"""transformers refuses a safetensors file that does not say that its tensors are laid out as PyTorch's."""


def write_json(path: Path, value: Mapping[str, Json]) -> None:
    """Write one JSON object, indented, UTF-8."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Json]:
    """Read one JSON object."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise TypeError(f"{path} does not hold a JSON object")
    return value


def write_shards(directory: Path, shards: Iterable[Tensors], count: int) -> None:
    """Write the tensors, one file per shard, and the index that names each tensor's file.

    With an index a reader opens only the files that hold the blocks it wants. A single shard gets no index, as
    transformers does it. `shards` is consumed lazily: one shard at a time is in memory.
    """
    weight_map: dict[str, Json] = {}
    total = 0
    for number, tensors in enumerate(shards, start=1):
        name = SINGLE if count == 1 else f"model-{number:05}-of-{count:05}.safetensors"
        contiguous = {key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}
        save_file(contiguous, directory / name, metadata=_METADATA)
        weight_map |= dict.fromkeys(contiguous, name)
        total += sum(tensor.nbytes for tensor in contiguous.values())
    if count > 1:
        write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def open_to_all(directory: Path) -> Path:
    """Let every user read a checkpoint, as the service's, whose name it does not know; returns the directory."""
    directory.chmod(0o755)
    for file in directory.iterdir():
        file.chmod(0o644)
    return directory


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in order of their names."""
    return sorted(directory.glob("*.safetensors"))
