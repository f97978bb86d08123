"""What the handlers' segments prove, as the ledger takes it: each request once, and no more of it than was counted."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from plumised.ipc.proofs import ServedRequest, read_segment, segments
from plumised.ipc.tally import Tally, tallies
from plumised.ledger import Proof

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from plumised.ipc.messages import Usage
    from plumised.ipc.proofs import Segment, SegmentContent

_log: Final = logging.getLogger(__name__)

Batch = tuple[Tally, tuple[Proof, ...]]
"""A handler's tally, and proofs of requests that it counts."""


class ProofCollection:
    """The segments below a directory. Calls must not overlap.

    A proof's key is made of incarnation, handler and request, so that one that is taken again is known.

    Args:
        directory: of the tallies.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._taken: dict[Path, set[int]] = {}
        self._offered: dict[Path, set[int]] = {}
        self._done: set[Path] = set()

    async def incarnations(self) -> set[str]:
        """Those that have left segments.

        Raises:
            OSError: the directory cannot be read; so with every call here.
        """
        return await asyncio.to_thread(lambda: {segment.incarnation for segment in segments(self._directory)})

    async def news(self, incarnation: str) -> list[Batch]:
        """Requests of a running incarnation that have ended and were not taken yet."""
        return await asyncio.to_thread(self._news, incarnation)

    async def took(self) -> None:
        """What `news` returned last is kept: do not offer it again, and delete segments that are done."""
        for path, numbers in self._offered.items():
            self._taken.setdefault(path, set()).update(numbers)
        for path in self._done:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            self._taken.pop(path, None)

    async def rest(self, incarnation: str, counted: Iterable[Tally]) -> list[Batch]:
        """All that an incarnation which is over has proven.

        Args:
            incarnation: whose.
            counted: its tallies, as they were taken.
        """
        usable = [tally for tally in counted if tally.usage is not None]
        return await asyncio.to_thread(lambda: list(self._rest(incarnation, usable)))

    async def delete(self, incarnation: str) -> None:
        """It is all taken and closed."""
        await asyncio.to_thread(self._delete, incarnation)

    def _news(self, incarnation: str) -> list[Batch]:
        self._offered.clear()
        self._done.clear()
        batches = []
        for tally in tallies(self._directory):
            if tally.incarnation != incarnation or tally.usage is None:
                continue
            proofs: list[Proof] = []
            for segment, content in _contents(self._of(incarnation, tally.handler), tally.usage):
                if content is None:
                    continue
                known = self._taken.get(segment.path, set())
                news = [one for one in content.requests if one.ended and one.number not in known]
                proofs += _proofs(segment, content, news)
                self._offered[segment.path] = {one.number for one in news}
                if content.done:
                    self._done.add(segment.path)
            if proofs:
                batches.append((tally, tuple(proofs)))
        return batches

    def _rest(self, incarnation: str, counted: Iterable[Tally]) -> Iterator[Batch]:
        for tally in counted:
            if tally.usage is None:
                continue
            for segment, content in _contents(self._of(incarnation, tally.handler), tally.usage):
                if content is None:
                    _log.warning("%s is damaged; what its handler served last may be unproven", segment.path)
                else:
                    yield tally, tuple(_proofs(segment, content, content.requests))

    def _delete(self, incarnation: str) -> None:
        for segment in list(segments(self._directory)):
            if segment.incarnation == incarnation:
                segment.path.unlink(missing_ok=True)
                self._taken.pop(segment.path, None)

    def _of(self, incarnation: str, handler: str) -> list[Segment]:
        found = segments(self._directory)
        return [segment for segment in found if (segment.incarnation, segment.handler) == (incarnation, handler)]


def _contents(found: Iterable[Segment], usage: Usage) -> Iterator[tuple[Segment, SegmentContent | None]]:
    counted = usage.inference.steps + usage.forward.steps + usage.backward.steps
    for segment in found:
        yield segment, read_segment(segment.path, counted)


def _proofs(segment: Segment, content: SegmentContent, requests: Iterable[ServedRequest]) -> Iterator[Proof]:
    for request in requests:
        yield Proof(
            key=f"{segment.incarnation}/{segment.handler}/{request.number}",
            model_hash="0x" + content.model.hex(),
            input_hash="0x" + request.input_digest.hex(),
            output_hash="0x" + request.output_digest.hex(),
            token_count=request.tokens,
        )
