"""A real engine proves what it serves: the client hashes what it sent and received, and finds just that on disk."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from eth_utils.crypto import keccak

from tests.petals.client import ClientError, Kept
from tests.petals.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plumised.ipc.proofs import ServedRequest
    from tests.petals.client import SwarmClient
    from tests.petals.engine_process import EngineProcess


class Proven:
    """What an engine has proven since this was made."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine
        self._before = {request.output_digest for request in engine.proven()}

    def __call__(self) -> list[ServedRequest]:
        return [request for request in self._engine.proven() if request.output_digest not in self._before]

    def is_(self, kept: Kept, tokens: int, *, ended: bool) -> None:
        """One request, of what the client has kept."""
        if ended:
            eventually(lambda: all(request.ended for request in self()), "the request has ended")
        (request,) = self()
        assert (request.input_digest, request.output_digest) == (keccak(kept.sent), keccak(kept.received))
        assert (request.tokens, request.ended) == (tokens, ended)


@pytest.fixture
def proven(served: EngineProcess) -> Proven:
    return Proven(served)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "kept")


def test_a_session_is_proven_step_by_step_and_ends_with_it(client: SwarmClient, proven: Proven, kept: Kept) -> None:
    client.open("proven", max_length=256)
    tokens = 0
    # Above 128 tokens petals goes through the blocks one by one; with the third step hashing moves to its thread.
    for length in (5, 1, 140, 1):
        client.step("proven", batch=2, length=length, keep=kept)
        tokens += 2 * length
        proven.is_(kept, tokens, ended=False)
    client.close("proven")
    proven.is_(kept, tokens, ended=True)


def test_a_step_without_tokens_proves_nothing(client: SwarmClient, proven: Proven, kept: Kept) -> None:
    client.open("asks for cache")
    client.step("asks for cache", length=0, keep=kept)
    assert proven() == []
    client.step("asks for cache", length=3, keep=kept)
    client.close("asks for cache")
    proven.is_(kept, 3, ended=True)


def test_sessions_side_by_side_are_proven_each(client: SwarmClient, proven: Proven, tmp_path: Path) -> None:
    kept = {name: Kept(tmp_path / name) for name in ("one", "two", "three")}
    for name in kept:
        client.open(name)
    for length in (3, 1, 2):
        for name, one in kept.items():
            client.step(name, length=length, keep=one)
    for name in kept:
        client.close(name)
    expected = {(keccak(one.sent), keccak(one.received), 6) for one in kept.values()}
    assert {(each.input_digest, each.output_digest, each.tokens) for each in proven()} == expected


# The last is 4.3 MB, and a part of a streamed message holds 4 MiB.
@pytest.mark.parametrize(("batch", "length", "streamed"), [(2, 7, False), (2, 7, True), (264, 64, True)])
def test_a_forward_pass_is_proven(
    client: SwarmClient, proven: Proven, kept: Kept, batch: int, length: int, streamed: bool
) -> None:
    client.forward(batch=batch, length=length, streamed=streamed, keep=kept)
    proven.is_(kept, batch * length, ended=True)


@pytest.mark.parametrize("streamed", [False, True])
def test_a_backward_pass_is_proven_with_the_gradients_after_the_hidden_states(
    client: SwarmClient, proven: Proven, kept: Kept, streamed: bool
) -> None:
    client.backward(batch=3, length=5, streamed=streamed, keep=kept)
    proven.is_(kept, 15, ended=True)


def test_a_request_that_is_refused_is_not_proven(client: SwarmClient, proven: Proven) -> None:
    client.open("too long to prove", max_length=4096)
    with pytest.raises(ClientError):
        client.step("too long to prove")
    assert proven() == []


def test_a_killed_handler_leaves_a_proof_of_what_it_counted(
    start: Callable[..., EngineProcess], bloom: Path, client: SwarmClient, served: EngineProcess, kept: Kept
) -> None:
    engine = start(bloom, prefix="prove-kill", initial_peers=served.online().addresses, handlers=1)
    engine.online()
    client.open("cut off", prefix="prove-kill")
    for length in (6, 1):
        client.step("cut off", prefix="prove-kill", length=length, keep=kept)
    os.kill(engine.process("plumise-hdl-0").pid, signal.SIGKILL)
    (request,) = engine.proven()
    assert (request.input_digest, request.output_digest) == (keccak(kept.sent), keccak(kept.received))
    assert (request.tokens, request.ended) == (7, False)


def test_an_engine_that_is_not_asked_to_proves_nothing(
    start: Callable[..., EngineProcess], bloom: Path, client: SwarmClient, served: EngineProcess
) -> None:
    engine = start(bloom, prefix="no-proofs", initial_peers=served.online().addresses, proofs=False)
    engine.online()
    client.open("unproven", prefix="no-proofs")
    client.step("unproven", prefix="no-proofs", length=2)
    client.close("unproven", prefix="no-proofs")
    client.forward(prefix="no-proofs", batch=1, length=4)
    assert engine.tallied().forward.tokens == 4
    assert not list((engine.directory / "tally").rglob("proofs-*"))
