"""Sessions of Petals' own client are collected in the thread of the loop that has their streams."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

from hivemind.moe.client.remote_expert_worker import RemoteExpertWorker
from hivemind.proto import runtime_pb2
from petals.client.inference_session import InferenceSession, _ServerInferenceSession

from plumised.petals.closing import RELIES_ON, collect_without_waiting
from plumised.petals.patches import fingerprint
from tests.petals import fingerprints
from tests.petals.waiting import DEADLINE_S

if TYPE_CHECKING:
    import pytest


class Ended:
    """The answers of a server that sends no more."""

    async def __anext__(self) -> Any:
        raise StopAsyncIteration


def test_upstream_closes_as_it_did() -> None:
    known = fingerprints.read()
    assert {name: fingerprint(name) for name in RELIES_ON} == {name: known.get(name) for name in RELIES_ON}


def test_a_session_that_is_collected_in_the_loop_s_thread_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for sessions in (_ServerInferenceSession, InferenceSession):
        monkeypatch.setattr(sessions, "__del__", sessions.__del__)
    collect_without_waiting()

    async def collect() -> Any:
        sent: asyncio.Queue[Any] = asyncio.Queue()
        session = _ServerInferenceSession(None, None, "uid", {}, sent, Ended(), max_length=1)
        whole = InferenceSession(None, 1)
        whole._server_sessions.append(session)
        del session, whole
        gc.collect()
        return await asyncio.wait_for(sent.get(), DEADLINE_S)

    future = RemoteExpertWorker.run_coroutine(collect(), return_future=True)
    # An empty request, which ends the session on the server.
    assert future.result(DEADLINE_S) == runtime_pb2.ExpertRequest()
