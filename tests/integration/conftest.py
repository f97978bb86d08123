"""What the integration tests share: the devnet, and short directories for unix sockets."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory whose path leaves room for unix sockets; pytest's own are too long for them."""
    directory = Path(tempfile.mkdtemp(prefix="plm-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory
