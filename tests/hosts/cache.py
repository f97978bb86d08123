"""Where the harness keeps what takes long to make."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """What all checkouts of this user share: bases of images, locks."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PLUMISED_CACHE") or caches / "plumised") / "hosts"
