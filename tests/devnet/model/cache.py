"""Things made once per recipe and shared by all checkouts of one user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def cache_root(environment: Mapping[str, str]) -> Path:
    """The cache directory of the project's tools: PLUMISED_CACHE, else the XDG cache directory's `plumised`."""
    if named := environment.get("PLUMISED_CACHE"):
        return Path(named)
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path(environment["HOME"]) / ".cache") / "plumised"


def recipe_hash(sources: Iterable[Path], *pins: str) -> str:
    """Name a recipe: it changes with the program text that makes the thing and with what it is made from."""
    digest = hashlib.sha256()
    for part in (*(source.read_bytes() for source in sources), *(pin.encode() for pin in pins)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def made_once(directory: Path, make: Callable[[Path], None]) -> Path:
    """Return `directory`, filled by `make` if it does not exist yet.

    Whatever is interrupted, `directory` exists only complete. Of several processes at once one makes it and the
    others wait for it. Its files are read-only, for they may be linked to from elsewhere.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{directory}.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            _clear_leftovers(directory)
            unfinished = Path(tempfile.mkdtemp(prefix=f"{directory.name}.tmp-", dir=directory.parent))
            try:
                make(unfinished)
                unfinished.chmod(0o755)
                for path in unfinished.rglob("*"):
                    path.chmod(0o755 if path.is_dir() else 0o444)
                unfinished.rename(directory)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def _clear_leftovers(directory: Path) -> None:
    for leftover in directory.parent.glob(f"{directory.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def link_tree(source: Path, dest: Path) -> None:
    """Give `dest` the files of `source` (which has no subdirectories) by hard links, or copies across file systems.

    Files of those names that are there are replaced, each atomically.
    """
    dest.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        target = dest / path.name
        if target.exists() and target.samefile(path):
            continue
        temporary = dest / f".{path.name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copy2(path, temporary)
        temporary.replace(target)
