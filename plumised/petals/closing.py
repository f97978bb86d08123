"""Lets the sessions of Petals' own client be collected in any thread.

Upstream, a session that is collected closes its stream and waits for the loop that has it. The collector may run in
that loop's own thread, which then waits for itself for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from hivemind.moe.client.remote_expert_worker import RemoteExpertWorker
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto import runtime_pb2
from petals.client.inference_session import InferenceSession, _ServerInferenceSession

RELIES_ON: Final = (
    "petals.client.inference_session.InferenceSession",
    "petals.client.inference_session._ServerInferenceSession",
    "hivemind.moe.client.remote_expert_worker.RemoteExpertWorker",
)
"""Upstream code that `collect_without_waiting` builds on."""

_FAREWELL_S: Final = 2.0


def collect_without_waiting() -> None:
    """Replace what the sessions do when they are collected. Sessions that are closed in order do that as before."""
    _ServerInferenceSession.__del__ = _leave
    # Those of its servers are collected with it.
    InferenceSession.__del__ = lambda _session: None


def _leave(session: Any) -> None:
    # One whose constructor has failed has neither.
    requests, responses = getattr(session, "_inputs_queue", None), getattr(session, "_outputs_stream", None)
    if requests is None or responses is None:
        return
    session._outputs_stream = session._inputs_queue = None  # noqa: SLF001 -- as its own `close` does
    RemoteExpertWorker.run_coroutine(_end(requests, responses), return_future=True)


async def _end(requests: asyncio.Queue[Any], responses: Any) -> None:
    # The empty request ends the session on its server.
    await requests.put(runtime_pb2.ExpertRequest())
    with contextlib.suppress(StopAsyncIteration, TimeoutError, OSError, P2PDaemonError, P2PHandlerError):
        await asyncio.wait_for(anext(responses), _FAREWELL_S)
