"""What a handler served, request by request, in files that survive the death of every process.

Each request has one slot, rewritten with every step, so that a request whose end never comes is told as far as it was
counted. As with the tally, a slot is two checksummed copies that are written in turn. A segment is one mapped file of
slots; a handler begins the next when one is full, and whoever took over a segment that is done deletes it.

A copy also says how many steps the handler's tally has counted once the copy's last step is among them. It is written
before the tally is. So whoever reads both after a kill knows whether that step was counted, and where it was not, the
other copy tells the request without it.

Layout, little-endian: 8 bytes magic, u32 version, u32 number of slots, 32 bytes digest of the model's name; then the
slots. A slot is two copies of u64 sequence, u64 request, u64 steps counted, u64 tokens, 32 bytes digest of the input,
32 bytes digest of the output, u32 flags (1: the request has ended), u32 CRC-32 of all before it.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plumised.ipc.tally import handler_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIGEST_BYTES: Final = 32

_MAGIC: Final = b"PLMPROOF"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sII32s")
_COPY: Final = struct.Struct("<QQQQ32s32sI")
_CHECK: Final = struct.Struct("<I")
_COPY_SIZE: Final = _COPY.size + _CHECK.size
_SLOT: Final = 2 * _COPY_SIZE
_EMPTY: Final = bytes(_SLOT)
_ENDED: Final = 1

_SLOTS: Final = 512
_GREATEST_SLOTS: Final = 1 << 16
_SEGMENTS: Final = 64

_INCARNATION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
_FILE: Final = re.compile(r"proofs-(\d+)-(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """One request as far as it was served.

    Attributes:
        number: of the request within its handler, from 1.
        counted: steps that the handler's tally has counted, of all kinds, when this one's last step is among them.
        tokens: batch size times sequence length, summed over the steps.
        input_digest: keccak-256 of the input data, 32 bytes.
        output_digest: keccak-256 of the output data, 32 bytes.
        ended: whether no step follows.
    """

    number: int
    counted: int
    tokens: int
    input_digest: bytes
    output_digest: bytes
    ended: bool = False


class RequestSlot:
    """Where one request is kept. Belongs to the thread and the process of its writer."""

    def __init__(self, mapping: mmap.mmap, offset: int, number: int) -> None:
        self._map = mapping
        self._offset = offset
        self._number = number
        self._sequence = 0
        self._last: tuple[int, int, bytes, bytes] | None = None

    def write(self, counted: int, tokens: int, input_digest: bytes, output_digest: bytes) -> None:
        """Keep the request up to a step that is about to be counted. Once this returns, it outlives this process.

        Args:
            counted: what the tally will have counted with that step.
            tokens: of the request, that step included.
            input_digest: of the request, that step included.
            output_digest: likewise.
        """
        self._last = (counted, tokens, input_digest, output_digest)
        self._write(self._last, 0)

    def end(self) -> None:
        """No step follows. A request without a step stays empty."""
        if self._last is not None:
            self._write(self._last, _ENDED)

    def _write(self, content: tuple[int, int, bytes, bytes], flags: int) -> None:
        self._sequence += 1
        copy = _COPY.pack(self._sequence, self._number, *content, flags)
        offset = self._offset + self._sequence % 2 * _COPY_SIZE
        self._map[offset : offset + _COPY_SIZE] = copy + _CHECK.pack(zlib.crc32(copy))


class ProofWriter:
    """Gives slots to one handler's requests. Belongs to one thread of one process; not to be carried over a fork.

    Args:
        directory: of the tallies.
        incarnation: of the engine.
        index: of the handler.
        pid: of the handler.
        model: keccak-256 of the model's name, 32 bytes.
        slots: of each segment.
        segments: most segments that may wait to be taken over; beyond, requests go without a slot.
    """

    def __init__(
        self,
        directory: Path,
        incarnation: str,
        index: int,
        pid: int,
        model: bytes,
        *,
        slots: int = _SLOTS,
        segments: int = _SEGMENTS,
    ) -> None:
        self._directory = directory / incarnation
        self._name = f"proofs-{index}-{pid}"
        self._model = model
        self._slots = slots
        self._segments = segments
        self._paths: list[Path] = []
        self._begun = 0
        self._requests = 0
        self._map: mmap.mmap | None = None
        self._used = slots

    def open(self) -> RequestSlot:
        """A slot for one more request; to be asked for with its first counted step, since it is taken for good.

        Raises:
            OSError: the disk has no room, or nobody takes the segments over. It may be tried again.
        """
        if self._map is None or self._used >= self._slots:
            self._map = self._begin()
            self._used = 0
        offset = _HEADER.size + self._used * _SLOT
        self._used += 1
        self._requests += 1
        return RequestSlot(self._map, offset, self._requests)

    def _begin(self) -> mmap.mmap:
        self._paths = [path for path in self._paths if path.exists()]
        if len(self._paths) >= self._segments:
            raise OSError(f"{len(self._paths)} segments of proofs have not been taken over")
        path = self._directory / f"{self._name}-{self._begun + 1}"
        size = _HEADER.size + self._slots * _SLOT
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # A page that has no room on disk yet would end the process with SIGBUS when it is first written.
            os.posix_fallocate(descriptor, 0, size)
            mapping = mmap.mmap(descriptor, size)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        mapping[: _HEADER.size] = _HEADER.pack(_MAGIC, _VERSION, self._slots, self._model)
        self._begun += 1
        self._paths.append(path)
        return mapping


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment that was found.

    Attributes:
        incarnation: the life of the engine that it belongs to.
        handler: the handler's key, see `tally.handler_key`.
        path: the file.
    """

    incarnation: str
    handler: str
    path: Path


def segments(directory: Path) -> Iterator[Segment]:
    """Every segment below a directory, in the order in which each handler wrote them.

    Raises:
        OSError: a directory cannot be read; one that does not exist is empty.
    """
    if not directory.is_dir():
        return
    for incarnation in sorted(directory.iterdir()):
        if not _INCARNATION.fullmatch(incarnation.name) or not incarnation.is_dir():
            continue
        found = [(match, path) for path in incarnation.iterdir() if (match := _FILE.fullmatch(path.name))]
        for match, path in sorted(found, key=lambda one: tuple(map(int, one[0].groups()))):
            yield Segment(incarnation.name, handler_key(int(match[1]), int(match[2])), path)


@dataclass(frozen=True, slots=True)
class SegmentContent:
    """What a segment says.

    Attributes:
        model: keccak-256 of the model's name, 32 bytes.
        requests: as far as they were counted, in the order of their beginning.
        done: whether every slot is taken and every request has ended: nobody writes to it any more.
    """

    model: bytes
    requests: tuple[ServedRequest, ...]
    done: bool


def read_segment(path: Path, counted: int) -> SegmentContent | None:
    """Read a segment, also while it is written.

    Args:
        path: of the file.
        counted: steps that the handler's tally has counted, read before or after it has ended; later steps are left
            out.

    Returns:
        None if the file is damaged or of another version. One whose writer ended while making it tells nothing.

    Raises:
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    if not any(content):
        return SegmentContent(bytes(DIGEST_BYTES), (), done=False)
    if len(content) < _HEADER.size:
        return None
    magic, version, slots, model = _HEADER.unpack_from(content)
    if (magic, version) != (_MAGIC, _VERSION) or not 0 < slots <= _GREATEST_SLOTS:
        return None
    if len(content) != _HEADER.size + slots * _SLOT:
        return None
    requests = []
    for offset in range(_HEADER.size, len(content), _SLOT):
        if content.startswith(_EMPTY, offset):
            continue
        copies = (_copy(content, offset), _copy(content, offset + _COPY_SIZE))
        within = [copy for copy in copies if copy is not None and copy[1].counted <= counted]
        if within:
            requests.append(max(within, key=lambda copy: copy[0])[1])
    done = len(requests) == slots and all(request.ended for request in requests)
    return SegmentContent(model, tuple(requests), done)


def _copy(content: bytes, offset: int) -> tuple[int, ServedRequest] | None:
    packed = content[offset : offset + _COPY.size]
    (checksum,) = _CHECK.unpack_from(content, offset + _COPY.size)
    sequence, number, counted, tokens, input_digest, output_digest, flags = _COPY.unpack(packed)
    if sequence == 0 or checksum != zlib.crc32(packed):
        return None
    return sequence, ServedRequest(number, counted, tokens, input_digest, output_digest, bool(flags & _ENDED))
