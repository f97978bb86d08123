"""How many histories are run, and which: by the environment, for the long runs of `make histories`."""

import os

_HISTORIES = int(os.environ.get("HISTORIES", "2000"))
_FIRST_SEED = int(os.environ.get("FIRST_SEED", "0"))
_DIALECTS = 2
PER_BLOCK = 100
"""Histories of one dialect that one block has."""

BLOCKS = range(_FIRST_SEED, _FIRST_SEED - (-_HISTORIES // (_DIALECTS * PER_BLOCK)))
"""The seeds; each block is run in both dialects."""
