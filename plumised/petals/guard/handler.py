"""The outermost layer of a connection handler: only what is well-formed and has a place gets beyond it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, AsyncIterator, Final  # noqa: UP035 -- hivemind knows this AsyncIterator only

# Needed at run time: hivemind reads the annotations of every rpc_ method to know its messages.
from hivemind.p2p import P2PContext  # noqa: TC002 -- see above
from hivemind.proto import runtime_pb2  # noqa: TC002 -- see above
from hivemind.utils.serializer import MSGPackSerializer
from petals.server.handler import TransformerConnectionHandler
from petals.server.memory_cache import AllocationFailed
from typing_extensions import override

from plumised.petals.guard import backlog, streams
from plumised.petals.guard.backlog import Backlog
from plumised.petals.guard.gate import Gate, Place
from plumised.petals.guard.limits import limits_of
from plumised.petals.guard.refusal import Refusal
from plumised.petals.guard.requests import (
    METADATA_BYTES,
    MOST_ARGUMENTS,
    arguments,
    check_blocks,
    check_length_of_session,
    check_metadata,
    check_order,
    check_pass,
    check_step,
    most_values,
    shapes_of,
)
from plumised.petals.guard.streams import StreamRequests, guard_streams
from plumised.petals.guard.tensors import Shape, check_length, head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plumised.petals.guard.limits import Limits

_FORWARD, _BACKWARD, _STEP = 1, 2, 3
"""The least number of arguments."""
_PUSHES: Final = 8
"""Steps from another server that may wait for a session; a client sends one after the other."""


class GuardedConnectionHandler(TransformerConnectionHandler):
    """Petals' handler, or what is derived from it beside this class, behind the guard."""

    _gate: Gate
    _limits: Limits
    _served: tuple[str, ...]

    @override
    async def add_p2p_handlers(self, p2p: Any, *args: Any, **kwargs: Any) -> None:
        backends = self.module_backends
        backend = next(iter(backends.values()))
        self._served = tuple(backends)
        self._limits = limits_of(int(backend.config.hidden_size), int(backend.forward_pool.max_batch_size))
        self._gate = Gate(self._limits)
        guard_streams(p2p, self._gate, self._limits)
        await super().add_p2p_handlers(p2p, *args, **kwargs)

    @override
    async def rpc_info(self, request: runtime_pb2.ExpertUID, context: P2PContext) -> runtime_pb2.ExpertInfo:
        with self._unary(request, context):
            if request.uid:
                check_blocks(request.uid, self._served)
            return await super().rpc_info(request, context)

    @override
    async def rpc_push(self, request: runtime_pb2.ExpertRequest, context: P2PContext) -> runtime_pb2.ExpertResponse:
        with self._unary(request, context):
            metadata = _metadata(request)
            if metadata.get("session_id") is None:
                raise Refusal("a push without a session")
            _check_step(request, metadata.get("args_structure"), check_blocks(request.uid, self._served), self._limits)
            return await super().rpc_push(request, context)

    @override
    async def rpc_forward(self, request: runtime_pb2.ExpertRequest, context: P2PContext) -> runtime_pb2.ExpertResponse:
        with self._unary(request, context):
            self._check_pass(request, _FORWARD)
            return await super().rpc_forward(request, context)

    @override
    async def rpc_backward(self, request: runtime_pb2.ExpertRequest, context: P2PContext) -> runtime_pb2.ExpertResponse:
        with self._unary(request, context):
            self._check_pass(request, _BACKWARD)
            return await super().rpc_backward(request, context)

    @override
    async def rpc_forward_stream(
        self, requests: AsyncIterator[runtime_pb2.ExpertRequest], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        async for reply in super().rpc_forward_stream(self._in_parts(requests, _FORWARD), context):
            yield reply

    @override
    async def rpc_backward_stream(
        self, requests: AsyncIterator[runtime_pb2.ExpertRequest], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        async for reply in super().rpc_backward_stream(self._in_parts(requests, _BACKWARD), context):
            yield reply

    @override
    async def rpc_inference(
        self, requests: AsyncIterator[runtime_pb2.ExpertRequest], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        session = _Session(self._served, self.inference_max_length, self._limits)
        checked = StreamRequests(requests, streams.current.get(), session, keeps=False)
        async for reply in super().rpc_inference(checked, context):
            yield reply

    @override
    async def _gather_inputs(self, requests: Any, context: P2PContext) -> Any:
        uid, inputs, metadata = await super()._gather_inputs(requests, context)
        streams.current.get().place.works()
        return uid, inputs, metadata

    @override
    async def _iterate_inference_steps(
        self,
        first_request: runtime_pb2.ExpertRequest,
        requests: Any,
        session_id: str | None,
        requested_uids: Sequence[str],
        context: P2PContext,
    ) -> AsyncIterator[Any]:
        stream = streams.current.get()
        place = stream.place
        steps = _Steps(_metadata(first_request).get("args_structure"), len(requested_uids), self._limits)
        async for step in super()._iterate_inference_steps(
            first_request, requests, session_id, requested_uids, context
        ):
            place.works()
            steps.check(step[0], own=step[0] is stream.taken_last)
            yield step
            place.waits()

    @override
    @contextlib.contextmanager
    def _managed_session(self, session_id: str) -> Iterator[None]:
        with super()._managed_session(session_id):
            self._session_queues[session_id] = _Pushes()
            yield

    @override
    @contextlib.asynccontextmanager
    async def _allocate_cache(
        self, backends: Sequence[Any], *, batch_size: int, max_length: int, timeout: float | None
    ) -> AsyncIterator[Any]:
        del timeout
        place = streams.current.get().place
        size = sum(int(value) for each in backends for value in each.cache_bytes_per_token.values())
        size *= batch_size * max_length
        async with contextlib.AsyncExitStack() as stack:
            handles = await self._reserve(stack, backends, batch_size, max_length, size, place)
            place.cache_bytes = size
            try:
                yield handles
            finally:
                place.cache_bytes = 0

    async def _reserve(
        self,
        stack: contextlib.AsyncExitStack,
        backends: Sequence[Any],
        batch_size: int,
        max_length: int,
        size: int,
        place: Place,
    ) -> Any:
        # Whoever waits for cache keeps everybody else from getting any: with no time to wait upstream answers at once.
        reserve = {"batch_size": batch_size, "max_length": max_length, "timeout": 0.0}
        try:
            return await stack.enter_async_context(super()._allocate_cache(backends, **reserve))
        except AllocationFailed:
            missing = size - int(backends[0].memory_cache.bytes_left)
            if not await self._gate.make_cache_room(missing, place):
                raise Refusal(f"no room for {batch_size} times {max_length} tokens in the attention cache") from None
        try:
            return await stack.enter_async_context(super()._allocate_cache(backends, **reserve))
        except AllocationFailed:
            raise Refusal(f"no room for {batch_size} times {max_length} tokens in the attention cache") from None

    @contextlib.contextmanager
    def _unary(self, request: Any, context: P2PContext) -> Iterator[None]:
        """A call of one message and one reply."""
        place = self._gate.enter(context.remote_id.to_bytes())
        place.works()
        followed = Backlog()
        token = backlog.current.set(followed)
        try:
            place.bring_now(request.ByteSize())
            yield
        finally:
            backlog.current.reset(token)
            followed.leave(place)

    def _in_parts(self, requests: AsyncIterator[runtime_pb2.ExpertRequest], least: int) -> StreamRequests:
        """The messages of a streamed pass, checked as they come."""
        parts = _Parts(self._served, self._limits, least)
        return StreamRequests(requests, streams.current.get(), parts, keeps=True)

    def _check_pass(self, request: runtime_pb2.ExpertRequest, least: int) -> None:
        blocks = check_blocks(request.uid, self._served)
        structure = _metadata(request).get("args_structure")
        found = arguments(structure, len(request.tensors), least)
        shapes = shapes_of(request.tensors, found, self._limits, blocks)
        check_pass(shapes, blocks, self._limits, gradients=least == _BACKWARD)


class _Session:
    """Checks the messages of one inference session as they come.

    Args:
        served: the blocks, in order.
        longest: tokens of a session.
        limits: of the handler.
    """

    def __init__(self, served: tuple[str, ...], longest: int, limits: Limits) -> None:
        self._served = served
        self._longest = longest
        self._limits = limits
        self._blocks = 0
        self._structure: object = None

    def take(self, request: runtime_pb2.ExpertRequest) -> None:
        """Take one message."""
        metadata = _metadata(request)
        if not self._blocks:
            self._blocks = check_blocks(request.uid, self._served)
            check_length_of_session(metadata, self._longest)
            # Upstream unpacks all steps as the first message says.
            self._structure = metadata.get("args_structure")
        if request.tensors:
            _check_step(request, self._structure, self._blocks, self._limits)

    def end(self) -> None:
        """All have come."""


class _Steps:
    """What the steps of a session, those of its peer and those that other servers push, have in common.

    Args:
        structure: of the arguments of all steps.
        blocks: of the session.
        limits: of the handler.
    """

    def __init__(self, structure: object, blocks: int, limits: Limits) -> None:
        self._structure = structure
        self._states = arguments(structure, _STEP, _STEP).positions[0] or 0
        self._blocks = blocks
        self._limits = limits
        self._batch: int | None = None
        self._empty = 0

    def check(self, request: runtime_pb2.ExpertRequest, *, own: bool) -> None:
        """Take one step. Its peer's own ones were checked when they came, pushed ones by what came with them."""
        if not own:
            _check_step(request, self._structure, self._blocks, self._limits)
        batch, length, _ = request.tensors[self._states].size
        if self._batch not in (None, batch):
            raise Refusal(f"a step of {batch} sequences in a session of {self._batch}")
        self._batch = batch
        self._empty += length == 0
        if self._empty > self._limits.empty_steps:
            raise Refusal(f"more than {self._limits.empty_steps} steps without tokens")


class _Parts:
    """Checks the parts of a streamed pass as they come: the first part of each tensor says what it is.

    Args:
        served: the blocks, in order.
        limits: of the handler.
        least: number of arguments.
    """

    def __init__(self, served: tuple[str, ...], limits: Limits, least: int) -> None:
        self._served = served
        self._limits = limits
        self._least = least
        self._blocks = 0
        self._structure: object = None
        self._bytes = 0
        self._shapes: list[Shape] = []
        self._arrived = 0

    def take(self, request: runtime_pb2.ExpertRequest) -> None:
        """Take one message."""
        if not self._blocks:
            self._blocks = check_blocks(request.uid, self._served)
            self._structure = _metadata(request).get("args_structure")
        self._bytes += request.ByteSize()
        if self._bytes > self._limits.message_bytes:
            raise Refusal(f"a pass of more than {self._limits.message_bytes} bytes")
        for part in request.tensors:
            if part.dtype or not self._shapes:
                # Upstream unpacks a tensor when the next one begins.
                self._check_last()
                self._shapes.append(head(part, most_values(self._limits, self._blocks)))
                if len(self._shapes) > MOST_ARGUMENTS:
                    raise Refusal(f"more than {MOST_ARGUMENTS} tensors")
            self._arrived += len(part.buffer)

    def end(self) -> None:
        """All have come."""
        self._check_last()
        found = arguments(self._structure, len(self._shapes), self._least)
        shapes = [None if position is None else self._shapes[position] for position in found.positions]
        check_pass(shapes, self._blocks, self._limits, gradients=self._least == _BACKWARD)

    def _check_last(self) -> None:
        if self._shapes:
            check_length(self._shapes[-1], self._arrived)
        self._arrived = 0


class _Pushes(asyncio.Queue[Any]):
    """What other servers have sent for a session; more than it can use is left out."""

    @override
    def put_nowait(self, item: Any) -> None:
        # None ends whoever waits, when the session is over.
        if item is None or self.qsize() < _PUSHES:
            super().put_nowait(item)


def _check_step(request: runtime_pb2.ExpertRequest, structure: object, blocks: int, limits: Limits) -> tuple[int, int]:
    """Check one inference step; its batch size and length."""
    found = arguments(structure, len(request.tensors), _STEP)
    batch, length = check_step(shapes_of(request.tensors, found, limits, blocks), blocks, limits)
    order = found.positions[2]
    if order is None:
        raise Refusal("no order of the batch")
    check_order(request.tensors[order], batch)
    return batch, length


def _metadata(request: runtime_pb2.ExpertRequest) -> dict[str, Any]:
    if len(request.metadata) > METADATA_BYTES:
        raise Refusal(f"{len(request.metadata)} bytes of metadata")
    try:
        metadata = MSGPackSerializer.loads(request.metadata) if request.metadata else {}
    except Exception as error:  # noqa: BLE001 -- upstream's reader of extensions raises whatever comes of them
        raise Refusal(f"metadata that cannot be read: {error}") from None
    return check_metadata(metadata)


def guarded(handler: type[TransformerConnectionHandler]) -> type[TransformerConnectionHandler]:
    """The handler class, with the guard before all that it does."""
    return type(handler.__name__, (GuardedConnectionHandler, handler), {})
