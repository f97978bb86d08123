"""Checkpoints for tests and the demo: a small real model, random ones of any shape, and damaged ones.

All are directories as transformers and Petals read them: config.json beside safetensors files.
"""

from tests.devnet.model.checkpoint import open_to_all
from tests.devnet.model.damage import drop_block, drop_weights, garble_weights, rename_model_type
from tests.devnet.model.random_weights import make_bloom, make_llama
from tests.devnet.model.smollm2 import make_smollm2

__all__ = [
    "drop_block",
    "drop_weights",
    "garble_weights",
    "make_bloom",
    "make_llama",
    "make_smollm2",
    "open_to_all",
    "rename_model_type",
]
