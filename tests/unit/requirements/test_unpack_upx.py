"""A program packed by UPX is unpacked to the byte, or not at all."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT: Final = Path(__file__).parents[3]
PROGRAM: Final = ROOT / "requirements/unpack_upx.py"
LOADER: Final = b"unpacks it at each start" * 7
BLOCK: Final = 5000
_HEADER: Final = 64 + 2 * 56


def _module() -> Any:
    spec = importlib.util.spec_from_file_location("unpack_upx", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


unpack_upx = _module()


@pytest.fixture(scope="module")
def ucl() -> Any:
    try:
        return unpack_upx.Ucl()
    except OSError:
        pytest.skip("libucl1 is not installed; requirements/debian-packages installs it")


def executable(first: bytes, gap: bytes, second: bytes, rest: bytes) -> bytes:
    """An ELF file of two segments, with something between them and after them."""
    end = _HEADER + len(first)
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(25)
        + struct.pack("<Q", 64)
        + bytes(12)
        + struct.pack("<HHHHHH", 64, 56, 2, 0, 0, 0)
    )
    segments = b"".join(
        struct.pack("<IIQQQQQQ", 1, 5, begin, begin, begin, size, size, 4096)
        for begin, size in ((0, end), (end + len(gap), len(second)))
    )
    return header[:64] + segments + first + gap + second + rest


def packed(first: bytes, gap: bytes, second: bytes, rest: bytes) -> bytes:
    """The same as UPX packs it."""
    original = executable(first, gap, second, rest)
    outer = original[:56] + struct.pack("<H", 1) + original[58:64] + bytes(56)
    info = struct.pack("<I4sHBB", 0, b"UPX!", len(LOADER), 14, 22) + struct.pack("<III", 0, len(original), BLOCK)
    parts = [original[:_HEADER], *_blocks(first), *_blocks(second)]
    loaded = outer + info + b"".join(map(_block, parts))
    loaded += bytes(-len(loaded) % 4) + LOADER
    between = [*_blocks(gap), *_blocks(rest)]
    checksum = zlib.adler32(b"".join([*parts, *between]))
    return loaded + b"".join(map(_block, between)) + b"UPX!\x0e\x16\x08\x07" + struct.pack("<I", checksum) + bytes(24)


def _blocks(content: bytes) -> list[bytes]:
    return [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]


def _block(content: bytes) -> bytes:
    body = _compressed(content)
    if len(body) >= len(content):
        body = content
    return struct.pack("<IIBBBB", len(content), len(body), 8, 0, 0, 0) + body


def _compressed(content: bytes) -> bytes:
    library = ctypes.CDLL("libucl.so.1")
    target, length = ctypes.create_string_buffer(len(content) * 2 + 1000), ctypes.c_uint(0)
    # ucl_compress_config_t: little endian, words of 32 bits, and its own choice of the rest.
    config = (ctypes.c_int * 9)(0, 32, *[-1] * 7)
    status = library.ucl_nrv2e_99_compress(
        content, ctypes.c_uint(len(content)), target, ctypes.byref(length), None, 7, config, None
    )
    assert status == 0
    return target.raw[: length.value]


contents = st.builds(lambda some, times: some * times, st.binary(min_size=1, max_size=300), st.integers(1, 60))
gaps = st.binary(max_size=200)


@given(first=contents, gap=gaps, second=contents, rest=gaps)
@settings(deadline=None)
def test_a_packed_program_is_unpacked_to_the_byte(
    ucl: Any, first: bytes, gap: bytes, second: bytes, rest: bytes
) -> None:
    assert unpack_upx.unpack(packed(first, gap, second, rest), ucl) == executable(first, gap, second, rest)


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(deadline=None)
def test_damage_is_found_or_does_not_matter(ucl: Any, at: float, bit: int) -> None:
    original = b"to be packed " * 900, b"between", b"and more " * 100, b"rest"
    content = bytearray(packed(*original))
    content[int(at * len(content))] ^= 1 << bit
    try:
        unpacked = unpack_upx.unpack(bytes(content), ucl)
    except unpack_upx.UnpackError:
        return
    assert unpacked in (None, executable(*original))


@given(length=st.integers(0, 900))
@settings(deadline=None)
def test_a_part_of_a_packed_program_is_refused(ucl: Any, length: int) -> None:
    content = packed(b"to be packed " * 90, b"between", b"and more " * 100, b"rest")
    with pytest.raises(unpack_upx.UnpackError):
        unpack_upx.unpack(content[: min(length, len(content) - 40)], ucl)


@pytest.mark.usefixtures("ucl")
def test_it_is_unpacked_with_its_mode_and_stays(tmp_path: Path) -> None:
    parts = b"to be packed " * 90, b"", b"and more " * 100, b"rest"
    program, target = tmp_path / "program", tmp_path / "target"
    program.write_bytes(packed(*parts))
    program.chmod(0o751)
    assert unpack_upx.main(program, target) == os.EX_OK
    assert target.read_bytes() == executable(*parts)
    assert target.stat().st_mode & 0o777 == 0o751
    assert program.read_bytes() == packed(*parts)
    assert sorted(tmp_path.iterdir()) == [program, target]


@pytest.mark.usefixtures("ucl")
def test_a_program_that_is_not_packed_is_copied(tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert unpack_upx.main(Path(sys.executable).resolve(), target) == os.EX_OK
    assert target.read_bytes() == Path(sys.executable).resolve().read_bytes()


@pytest.mark.usefixtures("ucl")
def test_of_one_of_an_unknown_kind_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray(packed(b"to be packed " * 90, b"", b"and more " * 100, b"rest"))
    method = 64 + 56 + 24 + 8
    assert content[method] == 8
    content[method] = 14
    program, target = tmp_path / "program", tmp_path / "target"
    program.write_bytes(content)
    assert unpack_upx.main(program, target) == os.EX_DATAERR
    assert not target.exists()
    assert "is not unpacked: the block at" in capsys.readouterr().err
