"""Builds the native parts: the kernel of the blocks, and the scores of the client's logits head.

    python -m plumised.petals.fast.building DIRECTORY

makes shared libraries of each for each instruction set in DIRECTORY, where they are not there yet as the source has
them. Standard library and g++ only.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

_PETALS: Final = Path(__file__).parents[1]
SOURCES: Final = {"span": _PETALS / "fast/native/kernel.cpp", "head": _PETALS / "client/head.cpp"}
"""What the libraries are named after, and made from."""
INSTRUCTION_SETS: Final = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3"}
"""For each CPU capability, as torch names it, GCC's name of the instruction set. Others have no kernel."""
_OPTIONS: Final = (
    "-std=c++20",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
    "-pthread",
    "-Wl,-z,relro,-z,now",
    "-Wall",
    "-Wextra",
    "-Werror",
)


def library(directory: Path, capability: str, part: str = "span") -> Path:
    """Where a part's library for a CPU capability stands."""
    return directory / f"{part}-{capability.lower()}.so"


def build(directory: Path, compiler: str = "g++", flags: tuple[str, ...] = ()) -> list[Path]:
    """Build what is missing or older than its source; returns what was built.

    Args:
        directory: for the libraries; made if missing.
        compiler: a C++ compiler with GCC's vector extensions.
        flags: further options, such as a distribution's hardening; before our own.

    Raises:
        OSError: there is no such compiler, or the directory cannot be written.
        subprocess.CalledProcessError: it refuses the source; its output has passed to standard error.
    """
    directory.mkdir(parents=True, exist_ok=True)
    return [
        target
        for part, source in SOURCES.items()
        for capability, architecture in INSTRUCTION_SETS.items()
        if _build(
            source,
            target := library(directory, capability, part),
            [compiler, *flags, *_OPTIONS, f"-march={architecture}"],
        )
    ]


def _build(source: Path, target: Path, command: list[str]) -> bool:
    parts = [source, *sorted((_PETALS / "fast/native").glob("*.h"))]
    key = hashlib.sha256("\n".join(command).encode() + b"".join(part.read_bytes() for part in parts)).hexdigest()
    stamp = target.with_suffix(".key")
    if target.exists() and stamp.exists() and stamp.read_text() == key:
        return False
    # Whoever has the old one mapped keeps it.
    scratch = target.with_name(f"{target.name}.{os.getpid()}")
    subprocess.run([*command, "-o", str(scratch), str(source)], check=True)
    scratch.replace(target)
    stamp.write_text(key)
    return True


if __name__ == "__main__":
    for built in build(Path(sys.argv[1]), os.environ.get("CXX", "g++"), tuple(os.environ.get("CXXFLAGS", "").split())):
        sys.stderr.write(f"Built {built}\n")
