"""What an engine that was killed leaves in shared memory."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plumised.engine.processes import identify

if TYPE_CHECKING:
    from collections.abc import Iterable

_PLACE: Final = Path("/dev/shm")  # noqa: S108 -- where Linux keeps it


def forget_tensors(pids: Iterable[int], place: Path = _PLACE) -> None:
    """Remove the tensors that processes which have ended shared under a name.

    torch names them `torch_<pid>_<random>_<number>` (at::NewProcessWideShmHandle). Its torch_shm_manager removes them
    when their owner ends, but ends itself with an engine that is killed, and they would stay.

    Args:
        pids: of the engine's processes. Where a process has that pid, its tensors are left alone.
        place: where shared memory is.
    """
    for pid in pids:
        if identify(pid) is None:
            for file in place.glob(f"torch_{pid}_*"):
                # Another user's, whose process had that pid before.
                with contextlib.suppress(PermissionError, FileNotFoundError):
                    file.unlink()
