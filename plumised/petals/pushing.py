"""Passes results on to the server that has the next blocks, where a client asks for it with a step.

petals 2.2.0.post1 means to do so, but hands `_push_outputs` the first request of the session and its metadata, where no
client names next servers: so it never happens. Here every push takes those of its own step, and waits until the step is
counted, as the reply to the client does.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from plumised.petals.computing import ComputingConnectionHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hivemind.proto import runtime_pb2

_MOST_BLOCKS: Final = 1024
"""Of a server that is named; upstream writes out the name of each."""
_MOST_SERVERS: Final = 256


@dataclass(frozen=True, slots=True)
class _Step:
    """The step that a session is at.

    Attributes:
        request: of the step.
        metadata: of the step.
        counted: its reply may leave.
    """

    request: runtime_pb2.ExpertRequest
    metadata: dict[str, Any]
    counted: asyncio.Event = field(default_factory=asyncio.Event)


# Set where a session's steps are taken, and read in the task that upstream makes for each push: it inherits the value.
_step: ContextVar[_Step] = ContextVar("_step")


class PushingConnectionHandler(ComputingConnectionHandler):
    """A handler whose pushes reach the next server."""

    @override
    async def _iterate_inference_steps(
        self, first_request: runtime_pb2.ExpertRequest, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        async for request, metadata in super()._iterate_inference_steps(first_request, *args, **kwargs):
            _step.set(_Step(request, metadata))
            yield request, metadata

    @override
    async def _push_outputs(
        self, request: runtime_pb2.ExpertRequest, serialized_outputs: runtime_pb2.Tensor, metadata: dict[str, Any]
    ) -> None:
        step = _step.get()
        if not names_servers(step.metadata.get("next_servers")):
            return
        try:
            async with asyncio.timeout(self.request_timeout):
                await step.counted.wait()
        except TimeoutError:
            # The session has ended before its reply left.
            return
        await super()._push_outputs(step.request, serialized_outputs, step.metadata)

    @override
    def _log_request(self, method: str, *args: Any, warning: str | None = None, **kwargs: Any) -> None:
        if warning is not None and method == "rpc_inference.push":
            # A client that sends the same step itself has been faster: with Petals' own that is so every other time.
            kwargs, warning = {**kwargs, "debug": warning}, None
        super()._log_request(method, *args, warning=warning, **kwargs)

    def _let_pass_on(self) -> None:
        """The step that the session is at is counted; of the task that serves the session."""
        _step.get().counted.set()


def names_servers(next_servers: Any) -> bool:
    """Whether this is a list of servers as upstream takes it: peer, session, first block, the block after the last."""
    if not isinstance(next_servers, list | tuple) or not 0 < len(next_servers) <= _MOST_SERVERS:
        return False
    match next_servers[0]:
        case [str(), str(), int(start), int(end)]:
            return 0 <= start < end <= start + _MOST_BLOCKS
    return False
