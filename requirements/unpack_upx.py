# ruff: noqa: INP001 -- a program, of no package
"""Unpacks a program that UPX has packed: requirements/unpack_upx.py PROGRAM TARGET.

A packed program unpacks itself at each start, into memory that is its process's own. Unpacked on the disk it is the
same program, whose processes share what they use of it, and the system reads no more of it than that.

Known is what hivemind's p2pd is: ELF for x86-64, method NRV2E, without filters, by UPX 3.9x or 4. The layout is that of
UPX's src/stub/src/include/linux.h (l_info, p_info, b_info) and src/packhead.cpp; the result is compared with UPX's own
checksum of the original. Needs libucl.so.1 (Debian's libucl1).

A program that is not packed is copied. Exit status 65 for one that is packed in another way or damaged, and 69 without
the library: then there is no target.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import Final

_MAGIC: Final = b"UPX!"
_ELF64_AMD64: Final = 22
_NRV2E_LE32: Final = 8
_PT_LOAD: Final = 1
_LARGEST: Final = 1 << 30


class UnpackError(Exception):
    """The program is packed in a way that is not known, or damaged."""


class Ucl:
    """The library that UPX packs with.

    Raises:
        OSError: it is not there.
    """

    def __init__(self) -> None:
        self._decompress = ctypes.CDLL("libucl.so.1").ucl_nrv2e_decompress_safe_le32
        self._decompress.restype = ctypes.c_int
        self._decompress.argtypes = [
            *(ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint)),
            ctypes.c_void_p,
        ]

    def decompress(self, packed: bytes, size: int) -> bytes:
        """What was packed into these bytes.

        Raises:
            UnpackError: it does not have this size, or they are damaged.
        """
        target, length = ctypes.create_string_buffer(size), ctypes.c_uint(size)
        status = self._decompress(packed, len(packed), target, ctypes.byref(length), None)
        if status or length.value != size:
            raise UnpackError(f"a block of {size} bytes is damaged")
        return target.raw


def unpack(content: bytes, ucl: Ucl) -> bytes | None:
    """The program that was packed; None for one that is not.

    Raises:
        UnpackError: it is packed in another way, or damaged.
    """
    if content[:4] != b"\x7fELF":
        raise UnpackError("it is no ELF file")
    try:
        (count,) = struct.unpack_from("<H", content, 56)
        (magic, loader, _, kind) = struct.unpack_from("<4x4sHBB", content, 64 + 56 * count)
        if magic != _MAGIC:
            return None
        (size,) = struct.unpack_from("<4xI4x", content, 64 + 56 * count + 12)
        blocks = _Blocks(content, 64 + 56 * count + 24, ucl)
        if kind != _ELF64_AMD64 or size > _LARGEST:
            raise UnpackError("it is not for x86-64")
        header = blocks.next()
        extents = _extents(header)
        parts = {0: header}
        for begin, end in extents:
            parts |= blocks.until(max(begin, len(header)), end)
        blocks.skip(loader)
        ends = [*(begin for begin, _ in extents[1:]), size]
        for (_, begin), end in zip(extents, ends, strict=True):
            parts |= blocks.until(begin, end)
        wanted: int = struct.unpack_from("<8xI", content, content.rindex(_MAGIC))[0]
    except struct.error as error:
        raise UnpackError("it ends too early") from error
    if blocks.checksum != wanted:
        raise UnpackError("its checksum is not that of what was packed")
    return b"".join(parts[begin] for begin in sorted(parts))


class _Blocks:
    """The compressed blocks, one after another."""

    def __init__(self, content: bytes, at: int, ucl: Ucl) -> None:
        self._content = content
        self._at = at
        self._ucl = ucl
        self.checksum = 1

    def next(self) -> bytes:
        size, packed, method, filtered = struct.unpack_from("<IIBB2x", self._content, self._at)
        body = self._content[self._at + 12 : self._at + 12 + packed]
        if not 0 < packed <= size <= _LARGEST or len(body) != packed or filtered or method != _NRV2E_LE32:
            raise UnpackError(f"the block at {self._at} is of an unknown kind")
        self._at += 12 + packed
        block = body if packed == size else self._ucl.decompress(body, size)
        self.checksum = zlib.adler32(block, self.checksum)
        return block

    def until(self, begin: int, end: int) -> dict[int, bytes]:
        """The blocks of a part of the original, by where they begin there."""
        parts = {}
        while begin < end:
            parts[begin] = block = self.next()
            begin += len(block)
        if begin > end:
            raise UnpackError("its blocks do not fit together")
        return parts

    def skip(self, loader: int) -> None:
        """The code that unpacks the program when it starts."""
        self._at = (self._at + 3) // 4 * 4 + loader


def _extents(header: bytes) -> list[tuple[int, int]]:
    """Which parts of the original are loaded, in order."""
    (count,) = struct.unpack_from("<H", header, 56)
    segments = [struct.unpack_from("<I4xQ16xQ", header, 64 + 56 * number) for number in range(count)]
    extents = [(begin, begin + size) for kind, begin, size in segments if kind == _PT_LOAD]
    if not extents or extents != sorted(extents) or extents[0][0]:
        raise UnpackError("its segments are not in order")
    return extents


def main(program: Path, target: Path) -> int:
    """Unpack one program into another file; the exit status."""
    try:
        content = program.read_bytes()
        unpacked = unpack(content, Ucl())
    except UnpackError as error:
        sys.stderr.write(f"unpack_upx: {program} is not unpacked: {error}\n")
        return os.EX_DATAERR
    except OSError as error:
        sys.stderr.write(f"unpack_upx: {program} is not unpacked: {error}; with Debian's libucl1 it can be\n")
        return os.EX_UNAVAILABLE
    # Who runs an earlier one keeps it.
    scratch = target.with_name(f"{target.name}.{os.getpid()}")
    scratch.write_bytes(content if unpacked is None else unpacked)
    shutil.copymode(program, scratch)
    scratch.replace(target)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
