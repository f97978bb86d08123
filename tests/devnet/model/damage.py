"""Ways in which a checkpoint is broken in practice, each done to a finished one on disk."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from safetensors.numpy import load_file

from tests.devnet.model.checkpoint import CONFIG, INDEX, read_json, weight_files, write_json, write_shards

if TYPE_CHECKING:
    from pathlib import Path

    from tests.devnet.model.checkpoint import Tensors


def drop_block(directory: Path, block: int) -> None:
    """Take all tensors of one block out, as in a checkpoint that was pruned or saved by halves.

    The checkpoint is one file afterwards.
    """
    _keep(directory, re.compile(rf"^(?:h|model\.layers)\.{block}\."), "")


def drop_weights(directory: Path, block: int, name: str) -> None:
    """Take the tensors of one block out whose name after the block's prefix begins with `name`."""
    _keep(directory, re.compile(rf"^(?:h|model\.layers)\.{block}\."), name)


def _keep(directory: Path, block: re.Pattern[str], name: str) -> None:
    tensors: Tensors = {}
    for path in weight_files(directory):
        tensors |= load_file(path)
    kept = {
        key: tensor
        for key, tensor in tensors.items()
        if not ((match := block.match(key)) and key[match.end() :].startswith(name))
    }
    if len(kept) == len(tensors):
        raise ValueError(f"nothing in {directory} matches {block.pattern}{name}")
    for path in weight_files(directory):
        path.unlink()
    (directory / INDEX).unlink(missing_ok=True)
    write_shards(directory, [kept], 1)


def garble_weights(directory: Path) -> None:
    """Replace the content of every weight file by bytes that are no safetensors, as a broken download leaves them."""
    for path in weight_files(directory):
        path.write_bytes(b"<html>429 Too Many Requests</html>\n" * 64)


def rename_model_type(directory: Path, model_type: str = "abacus") -> None:
    """Let config.json name an architecture that nobody knows."""
    config = read_json(directory / CONFIG)
    write_json(directory / CONFIG, config | {"model_type": model_type, "architectures": ["AbacusForCausalLM"]})
