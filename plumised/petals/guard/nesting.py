"""Bounds how deep a stranger may nest what msgpack calls extensions.

Upstream unpacks each level of them by calling msgpack again, which takes 40 KB of the C stack: 400 levels, in a message
of 2 KB, end the process.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from hivemind.utils.serializer import MSGPackSerializer

MOST: Final = 16
"""Levels. Petals' own metadata has three."""

_here = threading.local()


def bounded_extensions() -> Any:
    """In the place of `MSGPackSerializer._decode_ext_types`."""
    upstream = MSGPackSerializer._decode_ext_types.__func__  # noqa: SLF001 -- what is wrapped

    def decode(cls: Any, type_code: int, data: bytes) -> Any:
        depth = getattr(_here, "depth", 0)
        if depth >= MOST:
            raise ValueError(f"more than {MOST} levels of extensions")
        _here.depth = depth + 1
        try:
            return upstream(cls, type_code, data)
        finally:
            _here.depth = depth

    return classmethod(decode)
