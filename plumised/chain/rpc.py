"""Several RPC endpoints as one: the first of the list that works is used, within deadlines and bounds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from aiohttp import ClientSession, TCPConnector

from plumised.chain.endpoint import Endpoint, EndpointStatus
from plumised.chain.rpc_errors import (
    NoUsableRpcError,
    RpcBadAnswerError,
    RpcError,
    RpcMethodMissingError,
    RpcRefusedError,
    RpcUnreachableError,
)
from plumised.chain.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

T = TypeVar("T")

_MOST_CALLS = 8
"""Calls in flight at a time."""

_LIMIT_EXCEEDED = -32005
_INTERNAL = -32603
_ANSWERS_BY_REFUSAL = {"eth_call", "eth_sendRawTransaction"}
"""Methods whose refusal is the answer: that a call reverts, that a transaction is not taken."""

_NODE_TROUBLE = ("rate limit", "too many requests", "header not found", "missing trie node", "timed out", "timeout")


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """What is known of the endpoints.

    Attributes:
        in_use: name of the endpoint that gave the last answer, or None before the first.
        endpoints: all, in the configured order.
    """

    in_use: str | None
    endpoints: tuple[EndpointStatus, ...]


class Rpc:
    """The chain's RPC endpoints. An asynchronous context manager that owns their connections.

    A call goes to the endpoints in the configured order, passing over those that rest after a failure and putting
    those last whose latest block is old, until one answers. `eth_chainId` is checked on each before it is used, and
    again every `verified_for_s` of use, after each failure, and where a call asks for it.

    Args:
        urls: http or https; at least one.
        chain_id: that they must serve.
        timeout_s: for a call to one endpoint.
        behind_after_s: age of the latest block from which an endpoint counts as behind.
        verified_for_s: how long an endpoint is believed to serve the right chain. Shorter than the time for which a
            contradiction must last before the transaction queue believes it (`FlightPolicy.doubt_s`).
        timing: time and chance.
    """

    def __init__(
        self,
        urls: Sequence[str],
        chain_id: int,
        *,
        timeout_s: float = 10.0,
        behind_after_s: float = 120.0,
        verified_for_s: float = 10.0,
        timing: Timing | None = None,
    ) -> None:
        if not urls:
            raise ValueError("there must be at least one URL")
        self.chain_id = chain_id
        self._urls = tuple(urls)
        self._timeout_s = timeout_s
        self._behind_after_s = behind_after_s
        self._verified_for_s = verified_for_s
        self._timing = timing or Timing()
        self._slots = asyncio.Semaphore(_MOST_CALLS)
        self._session: ClientSession | None = None
        self._endpoints: tuple[Endpoint, ...] = ()
        self._in_use: str | None = None

    async def __aenter__(self) -> Self:
        self._session = ClientSession(connector=TCPConnector(limit=_MOST_CALLS, keepalive_timeout=4.0))
        self._endpoints = self._made(self._session)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def adopt(self, urls: Sequence[str], timeout_s: float) -> None:
        """Use these endpoints from the next call on; at least one. Calls in flight come to their end."""
        if (tuple(urls), timeout_s) == (self._urls, self._timeout_s):
            return
        if not urls:
            raise ValueError("there must be at least one URL")
        self._urls, self._timeout_s = tuple(urls), timeout_s
        self._in_use = None
        if self._session is not None:
            self._endpoints = self._made(self._session)

    def _made(self, session: ClientSession) -> tuple[Endpoint, ...]:
        return tuple(
            Endpoint(
                url,
                session,
                self.chain_id,
                timeout_s=self._timeout_s,
                behind_after_s=self._behind_after_s,
                verified_for_s=self._verified_for_s,
                timing=self._timing,
            )
            for url in self._urls
        )

    def status(self) -> RpcStatus:
        """Return what is known of the endpoints, without asking them."""
        return RpcStatus(self._in_use, tuple(endpoint.status() for endpoint in self._endpoints))

    async def request(
        self, method: str, params: tuple[object, ...], read: Callable[[object], T], *, fresh: bool = False
    ) -> T:
        """Return the result of a call, from the first endpoint that gives one which `read` understands.

        Where all rest, the shortest rest is waited out first, if a call may take as long.

        Args:
            method: of JSON-RPC.
            params: its parameters.
            read: turns the result into a value; MalformedAnswerError where it cannot be one.
            fresh: whether the endpoint is asked for its chain first, even if it was a moment ago.

        Raises:
            RpcRefusedError: an endpoint refused the call itself; another would too.
            RpcMethodMissingError: the endpoints that answered do not have the method.
            NoUsableRpcError: no endpoint answered, or all rest for longer than a call may take.
        """
        await self._outlast_short_rests()
        missing: RpcMethodMissingError | None = None
        async with self._slots:
            tried: set[Endpoint] = set()
            for last_resort in (False, True):
                for endpoint in self._endpoints:
                    if endpoint in tried or endpoint.resting or not await _verified(endpoint, fresh=fresh):
                        continue
                    if endpoint.behind_s is not None and not last_resort:
                        continue
                    tried.add(endpoint)
                    try:
                        result = await endpoint.request(method, params, read)
                    except RpcMethodMissingError as error:
                        endpoint.answered()
                        missing = missing or error
                    except RpcRefusedError as error:
                        if not _is_trouble_of_the_node(method, error):
                            self._answered(endpoint)
                            raise
                        endpoint.failed(error)
                    except (RpcUnreachableError, RpcBadAnswerError) as error:
                        endpoint.failed(error)
                    else:
                        self._answered(endpoint)
                        return result
        raise missing or self._none_usable()

    async def _outlast_short_rests(self) -> None:
        deadline = self._timing.monotonic() + self._timeout_s
        while rest_s := min(endpoint.status().retry_in_s for endpoint in self._endpoints):
            if self._timing.monotonic() + rest_s > deadline:
                return
            await self._timing.sleep(rest_s)

    def _answered(self, endpoint: Endpoint) -> None:
        endpoint.answered()
        self._in_use = endpoint.name

    def _none_usable(self) -> RpcError:
        statuses = [endpoint.status() for endpoint in self._endpoints]
        reasons = "; ".join(status.problem.message for status in statuses if status.problem is not None)
        retry_in_s = min(status.retry_in_s for status in statuses)
        remedies = {status.problem.remedy for status in statuses if status.problem is not None}
        return NoUsableRpcError(
            f"No RPC endpoint of the chain can be used: {reasons or 'all rest'} (next try in {retry_in_s:.0f} s)",
            remedies.pop() if len(remedies) == 1 else "Check the network and chain.rpc_urls.",
        )


async def _verified(endpoint: Endpoint, *, fresh: bool) -> bool:
    try:
        await endpoint.verify_when_due(fresh=fresh)
    except RpcError as error:
        endpoint.failed(error)
        return False
    return True


def _is_trouble_of_the_node(method: str, refusal: RpcRefusedError) -> bool:
    """Whether another endpoint may well answer what this one refused."""
    if refusal.number == _LIMIT_EXCEEDED:
        return True
    if method == "eth_sendRawTransaction":
        return False
    if refusal.number == _INTERNAL and method not in _ANSWERS_BY_REFUSAL:
        return True
    return any(words in refusal.text.lower() for words in _NODE_TROUBLE)
