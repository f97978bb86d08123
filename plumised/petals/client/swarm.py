"""A client of one swarm: what it takes to generate text, opened once for any number of generations."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import torch
from hivemind import DHT
from petals.utils.auto_config import AutoDistributedConfig

from plumised.petals.client.ends import load_ends
from plumised.petals.client.head import GreedyHead, load_scores
from plumised.petals.client.routing import Router
from plumised.petals.client.scoring import Scorer
from plumised.petals.client.session import Limits, Links, Session, Traffic

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from plumised.petals.client.ends import Ends

_UPDATE_PERIOD_S: Final = 30.0
_WORKERS: Final = 32


class SwarmClient:
    """Generates text greedily, any number of texts at the same time. Of the event loop that it was opened in.

    Made by `open_client`.

    Attributes:
        traffic: what went to servers and came back so far.
    """

    def __init__(self, ends: Ends, router: Router, scorer: Scorer, limits: Limits, links: Links | None) -> None:
        self.traffic = Traffic()
        self._ends = ends
        self._router = router
        self._scorer = scorer
        self._limits = limits
        self._links = links

    @property
    def stop(self) -> frozenset[int]:
        """The tokens that end a text, as the model has them."""
        return self._ends.stop

    async def generate(
        self, prompt: Sequence[int], max_new_tokens: int, *, stop: frozenset[int] | None = None
    ) -> AsyncGenerator[int, None]:
        """The tokens that follow a prompt, each as soon as it is known; the last may be one of `stop`.

        Whoever leaves this before its end closes it (`contextlib.aclosing`), or is cancelled in it: the servers are
        then free at once.

        Args:
            prompt: at least one token.
            max_new_tokens: most tokens to generate.
            stop: end after one of these; None for the model's own.

        Raises:
            SwarmError: the swarm does not serve it.
            ValueError: of an empty prompt, or of one with what is no token of this model.
        """
        if not prompt or not 0 <= min(prompt) <= max(prompt) < len(self._ends.head):
            raise ValueError("a prompt is at least one of the model's tokens")
        stop = self._ends.stop if stop is None else stop
        async with Session(
            self._router, len(prompt) + max_new_tokens, self._limits, self.traffic, self._links
        ) as session:
            given = list(prompt)
            for number in range(1, max_new_tokens + 1):
                states = await session.step(self._embed(given))
                token = await self._scorer.next_token(states[0, -1])
                yield token
                if token in stop or number == max_new_tokens:
                    break
                given = [token]

    def _embed(self, ids: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            return self._ends.embed(torch.tensor(ids))


@contextlib.asynccontextmanager
async def open_client(
    model: str,
    *,
    initial_peers: Sequence[str],
    prefix: str | None = None,
    revision: str | None = None,
    limits: Limits | None = None,
    relay_only: bool = False,
) -> AsyncIterator[SwarmClient]:
    """Load what of the model a client computes, and join the swarm as a client.

    Args:
        model: directory, or name on the hub.
        initial_peers: multiaddresses of the swarm's peers, each with its peer id.
        prefix: of the swarm's keys; None to derive it from the model.
        revision: of the model on the hub.
        limits: of waiting; None for the defaults.
        relay_only: carry every result from server to server here, instead of having servers pass them on.

    Raises:
        UnsupportedModelError: the client cannot do without what this model has or lacks.
        OSError: a file of the model cannot be had.
    """
    limits = Limits() if limits is None else limits
    config = AutoDistributedConfig.from_pretrained(
        model,
        revision=revision,
        initial_peers=list(initial_peers),
        show_route=False,
        update_period=_UPDATE_PERIOD_S,
        **({} if prefix is None else {"dht_prefix": prefix}),
    )
    async with contextlib.AsyncExitStack() as stack:
        dht = await asyncio.to_thread(
            DHT,
            initial_peers=list(initial_peers),
            client_mode=True,
            num_workers=_WORKERS,
            startup_timeout=limits.recovery_s,
            start=True,
        )
        stack.push_async_callback(asyncio.to_thread, dht.shutdown)
        p2p = await dht.replicate_p2p()
        stack.push_async_callback(p2p.shutdown)
        ends = await asyncio.to_thread(load_ends, model, config, revision=revision)
        head = await asyncio.to_thread(GreedyHead, ends.head, load_scores())
        router = Router(config, dht, p2p)
        stack.callback(router.close)
        scorer = Scorer(ends, head)
        stack.callback(scorer.close)
        yield SwarmClient(ends, router, scorer, limits, None if relay_only else Links())
