"""Why the engine cannot go on: errors with a stable code, and what foreign exceptions mean in those terms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plumised.ipc.messages import Failure

EXIT_PERMANENT = 78
"""Exit status after a failure that another start cannot mend (sysexits.h EX_CONFIG)."""

EXIT_FAILURE = 70
"""Exit status after any other failure that was reported (sysexits.h EX_SOFTWARE)."""

CRASHED: Final = "engine-crashed"
"""Code of a failure that nobody foresaw."""


class EngineError(Exception):
    """A failure that was understood. Carries what the daemon shows to the operator."""

    def __init__(self, code: str, message: str, remedy: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message, remedy=remedy, permanent=permanent)


def model_not_found(model: str, detail: str) -> EngineError:
    """The model's files are not where the settings say."""
    return EngineError(
        "model-not-found",
        f"model {model}: {detail}",
        "Check [engine] model: a name on the hub, or the absolute path of a directory with config.json and weights.",
        permanent=True,
    )


def model_incomplete(model: str, block: int, detail: str) -> EngineError:
    """The checkpoint lacks tensors of a block that is to be served."""
    return EngineError(
        "model-incomplete",
        f"model {model}: block {block} cannot be loaded, its checkpoint lacks tensors: {detail}",
        "Fetch the checkpoint again, or point [engine] model to a complete one.",
        permanent=True,
    )


def model_damaged(model: str, detail: str) -> EngineError:
    """A file of the model cannot be read as what it should be."""
    return EngineError(
        "model-damaged",
        f"model {model}: {detail}",
        "Fetch the checkpoint again; a file of the cache may simply be deleted.",
        permanent=True,
    )


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Words of foreign exceptions that tell what went wrong, lower case."""

    words: tuple[str, ...]
    code: str
    remedy: str


_PATTERNS: Final = (
    _Pattern(
        ("out of memory", "can't allocate memory", "cannot allocate memory"),
        "out-of-memory",
        "Serve fewer blocks, lower [engine] attention_cache_tokens, or use a smaller dtype.",
    ),
    _Pattern(
        ("no space left on device", "insufficient disk space"),
        "disk-full",
        "Free space in [node] cache_dir, or raise the limit of the cache.",
    ),
    _Pattern(
        ("address already in use",),
        "port-taken",
        "Another program listens on a port of [swarm] listen: stop it or choose another port.",
    ),
    _Pattern(
        ("already taken by another peer",),
        "identity-taken",
        "Another running server uses the file of [swarm] identity_file: give each node its own.",
    ),
    _Pattern(
        ("bootstrap", "initial_peers", "initial peers", "failed to connect to"),
        "swarm-unreachable",
        "Check [swarm] initial_peers and the network to them; the node goes on trying.",
    ),
)


def describe(error: BaseException) -> Failure:
    """What an exception that ended the engine means to the operator. Unknown ones are reported as `CRASHED`."""
    if isinstance(error, EngineError):
        return error.failure
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    lower = f"{text.lower()} {'out of memory' if isinstance(error, MemoryError) else ''}"
    for pattern in _PATTERNS:
        if any(words in lower for words in pattern.words):
            return Failure(pattern.code, text, pattern.remedy, permanent=False)
    return Failure(
        CRASHED,
        text,
        "The lines before this one in the journal say more; the node starts the engine again by itself.",
        permanent=False,
    )
