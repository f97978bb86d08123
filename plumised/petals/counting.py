"""Counts the work that the connection handlers serve, and digests what passes, before each reply leaves.

Every handler is a forked process. It keeps its cumulative counters in its tally file, and the digests of each request
beside it, where they survive any kill, and publishes the counters on its own connection to the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, AsyncIterator, ClassVar, Final, Protocol  # noqa: UP035 -- hivemind knows this AsyncIterator only

# Needed at run time: hivemind reads the annotations of every rpc_ method to know its messages.
from hivemind.p2p import P2PContext  # noqa: TC002 -- see above
from hivemind.proto import runtime_pb2  # noqa: TC002 -- see above
from hivemind.utils.serializer import MSGPackSerializer
from petals.server.handler import TransformerConnectionHandler
from typing_extensions import override

from plumised.ipc.channel import Channel
from plumised.ipc.messages import PROTOCOL, Beat, Counters, Hello, Kind, Role, Usage
from plumised.ipc.proofs import ProofWriter
from plumised.ipc.tally import TallyWriter, tally_path
from plumised.petals.lifeline import die_with_parent, name_process
from plumised.petals.memory import IdleRelease, keep_inherited
from plumised.petals.proofs import NoDigest, Prover, hidden_states, model_digest
from plumised.petals.pushing import PushingConnectionHandler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from plumised.ipc.job import EngineJob
    from plumised.petals.progress_counter import RuntimeProgress
    from plumised.petals.proofs import Digest, Passing

_BEAT_INTERVAL_S: Final = 1.0
_CLOSE_TIMEOUT_S: Final = 2.0


class ActiveRequests(Protocol):
    """Shared memory with one slot per handler: the number of RPCs that it is serving."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


_step_started: ContextVar[float] = ContextVar("_step_started")


class UsageCounter:
    """The cumulative counters of one handler process, made durable with every step.

    Args:
        record: makes a snapshot durable; called before the reply of the step that it includes leaves.
        publish: tells the daemon; may coalesce.
    """

    def __init__(self, record: Callable[[Usage], None], publish: Callable[[Usage], None]) -> None:
        self._record = record
        self._publish = publish
        self._counters = {kind: Counters() for kind in Kind}

    def add(self, kind: Kind, *, tokens: int, service_s: float, first: bool) -> None:
        """Count one step that is about to be answered.

        Args:
            kind: of the RPC.
            tokens: batch size times sequence length.
            service_s: seconds from the inputs being there to the result being there.
            first: whether this is the first step of its RPC.
        """
        old = self._counters[kind]
        self._counters[kind] = replace(
            old,
            requests=old.requests + first,
            steps=old.steps + 1,
            tokens=old.tokens + tokens,
            service_us=old.service_us + max(0, round(service_s * 1e6)),
        )
        usage = self.snapshot()
        self._record(usage)
        self._publish(usage)

    @property
    def steps(self) -> int:
        """Steps counted so far, of all kinds."""
        return sum(counters.steps for counters in self._counters.values())

    def snapshot(self) -> Usage:
        """The counters as they are."""
        return Usage(
            inference=self._counters[Kind.INFERENCE],
            forward=self._counters[Kind.FORWARD],
            backward=self._counters[Kind.BACKWARD],
        )


def tokens_of(response: runtime_pb2.ExpertResponse) -> int:
    """Batch size times sequence length of a reply's hidden states or gradients; 0 for a step without tokens."""
    if not response.tensors:
        return 0
    size = response.tensors[0].size
    return int(size[0]) * int(size[1]) if len(size) == 3 else 0  # noqa: PLR2004 -- [batch, sequence, hidden]


class TracedMetadata(dict[str, Any]):
    """The metadata of a streamed RPC; takes up the tensors of its reply before they are split."""

    reply: Sequence[runtime_pb2.Tensor] = ()


class TracedRequests:
    """The messages of one RPC, together with its digests: upstream hands this object on to where it reads them.

    Attributes:
        digest: of the RPC.
        hidden: how many of its first tensors are hidden states or their gradients.
        metadata: of a streamed RPC, once it is read.
    """

    def __init__(self, requests: AsyncIterator[runtime_pb2.ExpertRequest], digest: Digest, hidden: int = 1) -> None:
        self._requests = requests
        self.digest = digest
        self.hidden = hidden
        self.metadata = TracedMetadata()

    def __aiter__(self) -> TracedRequests:
        return self

    async def __anext__(self) -> runtime_pb2.ExpertRequest:
        return await anext(self._requests)


class CountingConnectionHandler(PushingConnectionHandler):
    """A handler, with every served step counted. Made in the main process; `run` is the handler's own process.

    A subclass made by `counting_handler` sets the class variables; the instances are made by petals.
    """

    job: ClassVar[EngineJob]
    active: ClassVar[ActiveRequests]
    main_pid: ClassVar[int]
    _usage: UsageCounter
    _channel: Channel
    _prover: Prover | None

    @override
    def run(self) -> None:
        die_with_parent(self.main_pid, signal.SIGKILL)
        # A signal to the whole group must not bypass the main process, which drains first.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        name_process(f"plumise-hdl-{self._handler_index}")
        keep_inherited()
        # A predecessor that was killed in the middle of a request has left its count behind.
        self.active[self._handler_index] = 0
        job = self.job
        hello = Hello(PROTOCOL, job.incarnation, Role.HANDLER, self._handler_index, os.getpid())
        tally = TallyWriter(tally_path(Path(job.tally_dir), job.incarnation, hello.index, hello.pid))
        self._channel = Channel(Path(job.socket), hello)
        self._usage = UsageCounter(tally.write, self._channel.publish)
        self._prover = self._make_prover(hello) if job.proofs else None
        self._channel.start()
        try:
            super().run()
        finally:
            self._channel.close(_CLOSE_TIMEOUT_S)
            tally.close()
            if self._prover:
                self._prover.close()

    def _make_prover(self, hello: Hello) -> Prover:
        job = self.job
        writer = ProofWriter(Path(job.tally_dir), job.incarnation, hello.index, hello.pid, model_digest(job.model))
        return Prover(writer, next(iter(self.module_backends.values())).dtype)

    @override
    async def add_p2p_handlers(self, *args: Any, **kwargs: Any) -> None:
        # Keeps a reference: the loop holds tasks weakly.
        self._beat_task = asyncio.create_task(self._beat())
        await super().add_p2p_handlers(*args, **kwargs)

    async def _beat(self) -> None:
        """Prove that this process's event loop turns, and the thread that computes."""
        turns, idle = 0, IdleRelease()
        while True:
            await self.computed()
            turns += 1
            self._channel.publish(Beat(loop=turns, blocks=self.progress.blocks))
            idle.beat(self._usage.steps, busy=self.active[self._handler_index] > 0)
            await asyncio.sleep(_BEAT_INTERVAL_S)

    @contextlib.contextmanager
    def _serving(self) -> Iterator[Digest]:
        """One RPC, from its beginning to its end; gives its digests."""
        digest = self._prover.begin() if self._prover else NoDigest()
        self.active[self._handler_index] += 1
        try:
            yield digest
        finally:
            self.active[self._handler_index] -= 1
            digest.end()

    @override
    async def rpc_inference(
        self, requests: AsyncIterator[runtime_pb2.ExpertRequest], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        first = True
        with self._serving() as digest:
            async for response in super().rpc_inference(TracedRequests(requests, digest), context):
                if tokens := tokens_of(response):
                    service_s = time.monotonic() - _step_started.get()
                    await digest.take_output(response.tensors[:1])
                    digest.keep(self._usage.steps + 1, tokens)
                    self._usage.add(Kind.INFERENCE, tokens=tokens, service_s=service_s, first=first)
                    first = False
                    self._let_pass_on()
                yield response

    @override
    async def rpc_forward(self, request: runtime_pb2.ExpertRequest, context: P2PContext) -> runtime_pb2.ExpertResponse:
        return await self._counted_unary(Kind.FORWARD, super().rpc_forward, request, context)

    @override
    async def rpc_backward(self, request: runtime_pb2.ExpertRequest, context: P2PContext) -> runtime_pb2.ExpertResponse:
        return await self._counted_unary(Kind.BACKWARD, super().rpc_backward, request, context)

    @override
    async def rpc_forward_stream(
        self, requests: AsyncIterator[runtime_pb2.ExpertRequest], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        async for part in self._counted_stream(Kind.FORWARD, super().rpc_forward_stream, requests, context):
            yield part

    @override
    async def rpc_backward_stream(
        self, requests: AsyncIterator[runtime_pb2.ExpertRequest], context: P2PContext
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        async for part in self._counted_stream(Kind.BACKWARD, super().rpc_backward_stream, requests, context):
            yield part

    @override
    async def _iterate_inference_steps(
        self, first_request: runtime_pb2.ExpertRequest, requests: TracedRequests, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        structure = _structure(_metadata(first_request))
        async for request, metadata in super()._iterate_inference_steps(first_request, requests, *args, **kwargs):
            requests.digest.take_input(hidden_states(request.tensors, structure, _HIDDEN[Kind.INFERENCE]))
            _step_started.set(time.monotonic())
            yield request, metadata

    @override
    async def _gather_inputs(self, requests: TracedRequests, context: P2PContext) -> Any:
        uid, inputs, metadata = await super()._gather_inputs(requests, context)
        requests.digest.take_input(hidden_states(inputs, _structure(metadata), requests.hidden))
        # Upstream adds prompts to them in place.
        await requests.digest.input_taken()
        requests.metadata = TracedMetadata(metadata)
        _step_started.set(time.monotonic())
        return uid, inputs, requests.metadata

    @override
    def _serialize_outputs(self, hidden: Any, backends: Any, metadata: dict[str, Any]) -> Any:
        return _traced(metadata, super()._serialize_outputs(hidden, backends, metadata))

    @override
    def _serialize_grads(self, grads: Any, backends: Any, metadata: dict[str, Any]) -> Any:
        return _traced(metadata, super()._serialize_grads(grads, backends, metadata))

    async def _counted_unary(
        self,
        kind: Kind,
        serve: Callable[[runtime_pb2.ExpertRequest, P2PContext], Awaitable[runtime_pb2.ExpertResponse]],
        request: runtime_pb2.ExpertRequest,
        context: P2PContext,
    ) -> runtime_pb2.ExpertResponse:
        started = time.monotonic()
        with self._serving() as digest:
            digest.take_input(hidden_states(request.tensors, _structure(_metadata(request)), _HIDDEN[kind]))
            response = await serve(request, context)
            if tokens := tokens_of(response):
                service_s = time.monotonic() - started
                await self._count_only_step(digest, kind, response.tensors, tokens, service_s)
            return response

    async def _counted_stream(
        self,
        kind: Kind,
        serve: Callable[[Any, P2PContext], AsyncIterator[runtime_pb2.ExpertResponse]],
        requests: AsyncIterator[runtime_pb2.ExpertRequest],
        context: P2PContext,
    ) -> AsyncIterator[runtime_pb2.ExpertResponse]:
        # The first part of a streamed reply carries the shape of the whole tensor.
        first = True
        with self._serving() as digest:
            traced = TracedRequests(requests, digest, _HIDDEN[kind])
            async for part in serve(traced, context):
                if first and (tokens := tokens_of(part)):
                    service_s = time.monotonic() - _step_started.get()
                    await self._count_only_step(digest, kind, traced.metadata.reply, tokens, service_s)
                first = False
                yield part

    async def _count_only_step(
        self, digest: Digest, kind: Kind, reply: Sequence[Passing], tokens: int, service_s: float
    ) -> None:
        await digest.take_output(reply[:1])
        digest.keep(self._usage.steps + 1, tokens)
        self._usage.add(kind, tokens=tokens, service_s=service_s, first=True)


_HIDDEN: Final = {Kind.INFERENCE: 1, Kind.FORWARD: 1, Kind.BACKWARD: 2}
"""How many of a request's first tensors are hidden states or their gradients."""


def _metadata(request: runtime_pb2.ExpertRequest) -> dict[str, Any]:
    return MSGPackSerializer.loads(request.metadata) if request.metadata else {}


def _structure(metadata: dict[str, Any]) -> Any:
    return metadata.get("args_structure")


def _traced(metadata: dict[str, Any], reply: Sequence[runtime_pb2.Tensor]) -> Sequence[runtime_pb2.Tensor]:
    if isinstance(metadata, TracedMetadata):
        metadata.reply = reply
    return reply


def counting_handler(
    job: EngineJob, active: ActiveRequests, progress: RuntimeProgress, threads: int
) -> type[CountingConnectionHandler]:
    """The handler class of this engine.

    Args:
        job: where to count and whom to tell.
        active: one slot per handler, the number of RPCs that it is serving.
        progress: where this process counts the blocks that it computes.
        threads: that compute.
    """
    # hivemind derives the names of the RPCs from the name of the class; peers call petals' one.
    name = TransformerConnectionHandler.__name__
    variables = {"job": job, "active": active, "main_pid": os.getpid(), "progress": progress, "threads": threads}
    return type(name, (CountingConnectionHandler,), variables)
