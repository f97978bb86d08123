"""One sequence's way through the swarm: a chain of servers, each with the cache of its blocks.

The session keeps what it has sent to each server. When one fails, others take its blocks and are sent all of that
again, so a generation goes on with the same tokens. Servers pass results on among themselves where they can; each step
has an identifier, and a server that gets a step a second time ignores it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import torch

from plumised.petals.client.messages import UnusableAnswerError, result, step_request
from plumised.petals.client.routing import NoRouteError
from plumised.petals.client.stream import ServerFailedError, ServerRefusedError, ServerStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from hivemind.p2p import PeerID
    from hivemind.proto import runtime_pb2
    from petals.data_structures import RemoteSpanInfo

    from plumised.petals.client.routing import Router

logger = logging.getLogger(__name__)

_TOKENS_AT_ONCE: Final = 1024
"""Longer prompts go in several steps, so that no message, and no step of a server, is of any size."""


class SwarmError(Exception):
    """The swarm does not do what it is asked for, and further tries are no use or have taken too long."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait, in seconds.

    Attributes:
        connect_s: for a connection to a server.
        answer_s: for the answer to a step.
        recovery_s: until the blocks of a failed server, or all in the beginning, are served; retries included.
        refusals: how often a step may be answered with an error, by whatever servers.
        patience_s: for a result that one server passes on to the next; then it is sent from here.
        first_delay_s, longest_delay_s: between tries; each is twice the last, at random from half of that.
    """

    connect_s: float = 5.0
    answer_s: float = 60.0
    recovery_s: float = 60.0
    refusals: int = 3
    patience_s: float = 1.0
    first_delay_s: float = 0.1
    longest_delay_s: float = 2.0


@dataclass(slots=True)
class Traffic:
    """What passed over a client's life.

    Attributes:
        sent, received: tokens whose hidden states went to servers and came back, once per server.
        passed_on: steps whose hidden states one server has handed to the next.
    """

    sent: int = 0
    received: int = 0
    passed_on: int = 0


@dataclass(slots=True)
class Links:
    """What a client has learned of the connections between servers.

    Attributes:
        broken: pairs of servers of which the first does not pass results on to the second.
    """

    broken: set[tuple[PeerID, PeerID]] = field(default_factory=set)


@dataclass(slots=True)
class _Stage:
    """A part of the chain.

    Attributes:
        span: server and blocks.
        stream: the session there.
        session_id: its name.
        inputs: everything that the server has been sent, in order, each [1, tokens, hidden size].
    """

    span: RemoteSpanInfo
    stream: ServerStream
    session_id: str
    inputs: list[torch.Tensor]

    @property
    def peer(self) -> PeerID:
        return self.span.peer_id


class Session:
    """An inference session through all blocks. An async context manager; of one event loop, one step at a time.

    Args:
        router: finds servers.
        max_length: most tokens of the sequence.
        limits: of waiting.
        traffic: is kept.
        links: are known and learned; None to carry every result from server to server here.
    """

    def __init__(
        self, router: Router, max_length: int, limits: Limits, traffic: Traffic, links: Links | None = None
    ) -> None:
        self._router = router
        self._max_length = max_length
        self._limits = limits
        self._traffic = traffic
        self._links = links
        self._stages: list[_Stage] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        stages, self._stages = self._stages, []
        if kind is None:
            await asyncio.gather(*(stage.stream.finish() for stage in stages))
        else:
            _give_up(stages)

    async def step(self, states: torch.Tensor) -> torch.Tensor:
        """The last block's states of further tokens.

        Args:
            states: of the first block, float32 [1, tokens, hidden size].

        Raises:
            SwarmError: the swarm does not give them.
        """
        if states.shape[1] > _TOKENS_AT_ONCE:
            return torch.cat([await self.step(part) for part in torch.split(states, _TOKENS_AT_ONCE, dim=1)], dim=1)
        if not self._stages:
            self._stages, states = await self._bridge(0, self._router.blocks, states)
            return states
        step_id = uuid.uuid4().hex
        index, passed_on = 0, False
        while index < len(self._stages):
            stage = self._stages[index]
            stage.inputs.append(states)
            following = self._following(index)
            try:
                states = await self._ask(stage, states, step_id, following=following, is_there=passed_on)
                passed_on = bool(following)
                index += 1
            except ServerFailedError as error:
                replacement, states = await self._replace(stage, error)
                self._stages[index : index + 1] = replacement
                index += len(replacement)
                passed_on = False
        return states

    def _following(self, index: int) -> list[_Stage]:
        """The stages to whom results are passed on from this one without coming here first."""
        chain = self._stages[index : index + 1]
        for stage in self._stages[index + 1 :]:
            if self._links is None or (chain[-1].peer, stage.peer) in self._links.broken:
                break
            chain.append(stage)
        return chain[1:]

    async def _ask(
        self, stage: _Stage, states: torch.Tensor, step_id: str, *, following: list[_Stage], is_there: bool
    ) -> torch.Tensor:
        """One step of one server.

        Args:
            stage: the server's.
            states: its inputs, the last of those that are kept.
            step_id: of the step.
            following: who get the result from the server itself.
            is_there: the server before has been asked to pass them on.
        """

        def request() -> runtime_pb2.ExpertRequest:
            return step_request(
                self._router.uid(stage.span.start, stage.span.end),
                states,
                session_id=stage.session_id,
                step_id=step_id,
                next_servers=[
                    (other.peer.to_base58(), other.session_id, other.span.start, other.span.end) for other in following
                ],
            )

        self._traffic.sent += states.shape[1]
        if is_there:
            return await self._await_passed_on(stage, states, request)
        await stage.stream.send(request(), timeout_s=self._limits.answer_s)
        return self._received(stage, await stage.stream.receive(timeout_s=self._limits.answer_s), states)

    async def _await_passed_on(
        self, stage: _Stage, states: torch.Tensor, request: Callable[[], runtime_pb2.ExpertRequest]
    ) -> torch.Tensor:
        # In a task: to cancel it in the middle of a message would lose the message.
        answer = asyncio.create_task(stage.stream.receive(timeout_s=self._limits.answer_s))
        try:
            await asyncio.wait([answer], timeout=self._limits.patience_s)
            if answer.done():
                self._traffic.passed_on += 1
            else:
                link = (self._stages[self._stages.index(stage) - 1].peer, stage.peer)
                if self._links is not None and link not in self._links.broken:
                    logger.info("%s does not pass results on to %s", *link)
                    self._links.broken.add(link)
                await stage.stream.send(request(), timeout_s=self._limits.answer_s)
            return self._received(stage, await answer, states)
        finally:
            answer.cancel()

    def _received(self, stage: _Stage, response: runtime_pb2.ExpertResponse, states: torch.Tensor) -> torch.Tensor:
        try:
            outputs = result(response, states)
        except UnusableAnswerError as error:
            raise ServerFailedError(stage.peer, f"answers with what is unusable: {error}") from error
        self._traffic.received += outputs.shape[1]
        self._router.succeeded(stage.peer)
        return outputs

    async def _replace(self, stage: _Stage, error: ServerFailedError) -> tuple[list[_Stage], torch.Tensor]:
        """Others in the place of a failed server, and their outputs for its last inputs."""
        logger.warning("A server is replaced: %s", error)
        stage.stream.give_up()
        self._router.failed(stage.peer)
        stages, outputs = await self._bridge(stage.span.start, stage.span.end, torch.cat(stage.inputs, dim=1))
        return stages, outputs[:, -stage.inputs[-1].shape[1] :]

    async def _bridge(self, start: int, end: int, states: torch.Tensor) -> tuple[list[_Stage], torch.Tensor]:
        """A chain for blocks, and its outputs for everything that they have been given so far."""
        limits = self._limits
        deadline = asyncio.get_running_loop().time() + limits.recovery_s
        delay_s, refusals = limits.first_delay_s, 0
        while True:
            remaining_s = deadline - asyncio.get_running_loop().time()
            try:
                spans = await self._router.spans(
                    start, end, cache_tokens=self._max_length, timeout_s=max(remaining_s, limits.connect_s)
                )
                return await self._fill(spans, states)
            except (ServerFailedError, NoRouteError) as error:
                refusals += isinstance(error, ServerRefusedError)
                if remaining_s <= delay_s or refusals >= limits.refusals:
                    raise SwarmError(f"blocks {start} to {end - 1}: {error}") from error
                if isinstance(error, ServerFailedError):
                    self._router.failed(error.peer)
                logger.info("Another try in %.1f s: %s", delay_s, error)
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))  # noqa: S311 -- spreads tries
            delay_s = min(2 * delay_s, limits.longest_delay_s)

    async def _fill(self, spans: list[RemoteSpanInfo], states: torch.Tensor) -> tuple[list[_Stage], torch.Tensor]:
        """Open sessions along the spans and send everything through."""
        stages: list[_Stage] = []
        try:
            for span in spans:
                stream = await ServerStream.open(self._router.p2p, span.peer_id, timeout_s=self._limits.connect_s)
                stage = _Stage(span, stream, uuid.uuid4().hex, [states])
                stages.append(stage)
                states = await self._first_steps(stage)
        except BaseException:
            _give_up(stages)
            raise
        return stages, states

    async def _first_steps(self, stage: _Stage) -> torch.Tensor:
        outputs = []
        uid = self._router.uid(stage.span.start, stage.span.end)
        for number, part in enumerate(torch.split(stage.inputs[0], _TOKENS_AT_ONCE, dim=1)):
            request = step_request(
                uid,
                part,
                session_id=stage.session_id,
                step_id=uuid.uuid4().hex,
                max_length=self._max_length if number == 0 else None,
            )
            self._traffic.sent += part.shape[1]
            await stage.stream.send(request, timeout_s=self._limits.answer_s)
            answer = await stage.stream.receive(timeout_s=self._limits.answer_s)
            outputs.append(self._received(stage, answer, part))
        return torch.cat(outputs, dim=1)


def _give_up(stages: list[_Stage]) -> None:
    for stage in stages:
        stage.stream.give_up()
