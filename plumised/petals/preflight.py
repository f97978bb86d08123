"""What can be checked before the swarm is joined: the prefix, the span, the identity."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from google.protobuf.message import DecodeError
from hivemind.p2p import PeerID
from petals.data_structures import CHAIN_DELIMITER, UID_DELIMITER

from plumised.petals.failures import EngineError
from plumised.petals.identity import make_identity

if TYPE_CHECKING:
    from plumised.ipc.job import EngineJob


def check_prefix(job: EngineJob, derived: str | None) -> None:
    """Refuse to go on without a usable name for the model in the swarm.

    Args:
        job: may name one.
        derived: what petals makes of the model's name on the hub; None for a directory.

    Raises:
        EngineError: `prefix-missing` or `prefix-unusable`.
    """
    prefix = job.prefix or derived
    if prefix is None:
        raise EngineError(
            "prefix-missing",
            f"the model {job.model} is a directory, which does not say by what name the swarm knows the model",
            "Set [swarm] prefix to the prefix that the other nodes and the clients of this swarm use.",
            permanent=True,
        )
    if UID_DELIMITER in prefix or CHAIN_DELIMITER in prefix:
        raise EngineError(
            "prefix-unusable",
            f"the swarm's prefix {prefix!r} holds a dot or a space, which separate block names",
            "Set [swarm] prefix to a name without dots and spaces.",
            permanent=True,
        )


def check_span(job: EngineJob, total_blocks: int) -> None:
    """Refuse a span that the model does not have.

    Raises:
        EngineError: `span-outside-model`.
    """
    if job.last_block is not None and job.last_block > total_blocks:
        raise EngineError(
            "span-outside-model",
            f"[engine] blocks = {job.first_block}:{job.last_block}, but {job.model} has the blocks 0:{total_blocks}",
            f"Choose a span inside of 0:{total_blocks}.",
            permanent=True,
        )


def check_identity(job: EngineJob) -> None:
    """Make the identity file if it is missing; refuse one that cannot be read, made, or understood.

    Raises:
        EngineError: `identity-unreadable`.
    """
    path = Path(job.identity_file)
    problem = None
    if path.exists():
        if not path.is_file() or not os.access(path, os.R_OK):
            problem = "is not a readable file"
        elif path.stat().st_size == 0:
            problem = "is empty"
        elif not _is_key(path.read_bytes()):
            problem = "holds no private key that libp2p and hivemind can read"
    elif not path.parent.is_dir():
        problem = "cannot be made, its directory does not exist"
    elif not os.access(path.parent, os.W_OK):
        problem = "cannot be made, its directory is not writable"
    else:
        try:
            make_identity(job.identity_file)
        except OSError as error:
            problem = f"cannot be made: {error.strerror}"
    if problem is not None:
        raise EngineError(
            "identity-unreadable",
            f"the identity file {path} {problem}",
            "Restore the file or its permissions; delete it only if the node may get another peer id.",
            permanent=True,
        )


def _is_key(content: bytes) -> bool:
    try:
        PeerID.from_identity(content)
    except (DecodeError, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True
