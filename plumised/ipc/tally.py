"""A handler's counters in a file that survives the death of every process.

The file is mapped into memory, so a write costs microseconds and is in the kernel's page cache, where a killed process
cannot take it back. Two slots are written in turn: a kill in the middle of a write leaves the other slot whole, and a
checksum tells. It does not outlive a crash of the machine; what reached the ledger does.

Layout, little-endian: 8 bytes magic, u32 version, u32 zero; then two slots of u64 sequence, 12 u64 counters
(inference, forward, backward; each requests, steps, tokens, service_us), u32 CRC-32 of these 104 bytes, u32 zero.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plumised.ipc.messages import Counters, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC: Final = b"PLMTALLY"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sII")
_COUNTERS: Final = struct.Struct("<Q12Q")
_CHECK: Final = struct.Struct("<II")
_SLOT: Final = _COUNTERS.size + _CHECK.size
_SIZE: Final = _HEADER.size + 2 * _SLOT

_INCARNATION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_FILE: Final = re.compile(r"(handler-\d+-\d+)\.tally")


def handler_key(index: int, pid: int) -> str:
    """What tells one handler process from every other of its incarnation, on the socket and on disk alike."""
    return f"handler-{index}-{pid}"


def tally_path(directory: Path, incarnation: str, index: int, pid: int) -> Path:
    """Where a handler keeps its tally. The incarnation's directory is made by whoever writes first."""
    return directory / incarnation / f"{handler_key(index, pid)}.tally"


class TallyWriter:
    """Writes one handler's counters. Belongs to one thread of one process; not to be carried over a fork.

    Raises:
        OSError: the file exists already or cannot be made; with the disk full this fails here, never in `write`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A page that has no room on disk yet would end the process with SIGBUS when it is first written.
            os.posix_fallocate(descriptor, 0, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self._sequence = 0
        self._map[: _HEADER.size] = _HEADER.pack(_MAGIC, _VERSION, 0)
        self.write(Usage(Counters(), Counters(), Counters()))

    def write(self, usage: Usage) -> None:
        """Once this returns, the counters outlive this process, however it ends."""
        self._sequence += 1
        counters = _COUNTERS.pack(self._sequence, *_flat(usage))
        offset = _HEADER.size + self._sequence % 2 * _SLOT
        self._map[offset : offset + _SLOT] = counters + _CHECK.pack(zlib.crc32(counters), 0)

    def close(self) -> None:
        """Release the file; the counters stay in it. May be called again."""
        self._map.close()


def read_tally(path: Path) -> Usage | None:
    """The last counters that were completely written; None if there are none: damaged, unfinished, another version.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(_SIZE)
    if len(content) != _SIZE or _HEADER.unpack_from(content)[:2] != (_MAGIC, _VERSION):
        return None
    slots = [slot for slot in (_slot(content, 0), _slot(content, 1)) if slot is not None]
    return max(slots, key=lambda slot: slot[0])[1] if slots else None


@dataclass(frozen=True, slots=True)
class Tally:
    """One tally file that was found.

    Attributes:
        incarnation: the life of the engine that it belongs to.
        handler: the handler's key, see `handler_key`.
        path: the file.
        usage: what it says; None if it is damaged, or its handler ended while making it.
    """

    incarnation: str
    handler: str
    path: Path
    usage: Usage | None


def tallies(directory: Path) -> Iterator[Tally]:
    """Every tally below a directory, in the order of names; files of other names are left alone.

    Raises:
        OSError: a directory or file cannot be read; a directory that does not exist is empty.
    """
    if not directory.is_dir():
        return
    for incarnation in sorted(directory.iterdir()):
        if not _INCARNATION.fullmatch(incarnation.name) or not incarnation.is_dir():
            continue
        for path in sorted(incarnation.iterdir()):
            if match := _FILE.fullmatch(path.name):
                yield Tally(incarnation.name, match[1], path, read_tally(path))


def _flat(usage: Usage) -> tuple[int, ...]:
    return tuple(
        number
        for kind in (usage.inference, usage.forward, usage.backward)
        for number in (kind.requests, kind.steps, kind.tokens, kind.service_us)
    )


def _slot(content: bytes, index: int) -> tuple[int, Usage] | None:
    offset = _HEADER.size + index * _SLOT
    counters = content[offset : offset + _COUNTERS.size]
    sequence, *numbers = _COUNTERS.unpack(counters)
    checksum, _ = _CHECK.unpack_from(content, offset + _COUNTERS.size)
    if sequence == 0 or checksum != zlib.crc32(counters):
        return None
    return sequence, Usage(Counters(*numbers[0:4]), Counters(*numbers[4:8]), Counters(*numbers[8:12]))
