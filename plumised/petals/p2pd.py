"""How hivemind's p2pd is started."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

UNPACKED: Final = Path(sys.prefix, "lib", "plumised", "p2pd")
"""hivemind's program, unpacked by requirements/unpack_upx.py; not in every environment."""


def started_p2pd(upstream: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Hivemind's `P2P._make_process_args`, for a p2pd that ends with its parent, and the unpacked one where it is.

    As hivemind ships it, p2pd unpacks itself at each start into memory that is its process's own.
    """
    setpriv = shutil.which("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []

    def make(*args: Any, **kwargs: Any) -> list[str]:
        program, *options = upstream(*args, **kwargs)
        return [*guard, str(UNPACKED) if UNPACKED.exists() else program, *options]

    return make
