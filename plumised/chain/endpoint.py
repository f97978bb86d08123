"""One RPC endpoint: trusted only after it has shown the right chain, rested after it failed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from aiohttp import ClientError
from web3 import AsyncWeb3
from web3.exceptions import Web3Exception, Web3RPCError
from web3.types import RPCEndpoint

from plumised.chain import answers
from plumised.chain.provider import BoundedHttpProvider
from plumised.chain.rpc_errors import (
    RpcBadAnswerError,
    RpcError,
    RpcMethodMissingError,
    RpcRefusedError,
    RpcUnreachableError,
    WrongChainError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import ClientSession

    from plumised.chain.timing import Timing

T = TypeVar("T")

_METHOD_MISSING = -32601
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 60.0
_OTHER_WORDS_FOR_MISSING = ("does not exist/is not available", "method not found", "method not supported")


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What is known of an endpoint.

    Attributes:
        name: scheme, host and port; the rest of the URL may hold a key.
        usable: whether the next call would go to it, were it the first of the list.
        behind_s: age of its latest block in seconds where that is above the limit, else None.
        problem: why it is not usable, or None.
        retry_in_s: seconds until it is tried again; 0 where it may be tried at once.
    """

    name: str
    usable: bool
    behind_s: int | None
    problem: RpcError | None
    retry_in_s: float


class Endpoint:
    """An endpoint and what is known of it.

    Args:
        url: http or https.
        session: for its calls, owned by the caller.
        chain_id: that it must serve.
        timeout_s: for each call.
        behind_after_s: age of its latest block from which it counts as behind.
        verified_for_s: how long it is believed to serve the chain that it served.
        timing: time and chance.
    """

    def __init__(
        self,
        url: str,
        session: ClientSession,
        chain_id: int,
        *,
        timeout_s: float,
        behind_after_s: float,
        verified_for_s: float,
        timing: Timing,
    ) -> None:
        self.name = public_name(url)
        self.behind_s: int | None = None
        self._chain_id = chain_id
        self._timeout_s = timeout_s
        self._behind_after_s = behind_after_s
        self._timing = timing
        self._web3 = AsyncWeb3(BoundedHttpProvider(url, session, timeout_s), middleware=[])
        self._verification = asyncio.Lock()
        self._verified_for_s = verified_for_s
        self._verified_at: float | None = None
        self._failures = 0
        self._resting_until = 0.0
        self._problem: RpcError | None = None

    @property
    def resting(self) -> bool:
        """Whether it failed a short while ago and is left alone."""
        return self._timing.monotonic() < self._resting_until

    def status(self) -> EndpointStatus:
        """Return what is known of it."""
        return EndpointStatus(
            name=self.name,
            usable=self._problem is None,
            behind_s=self.behind_s,
            problem=self._problem,
            retry_in_s=max(0.0, self._resting_until - self._timing.monotonic()),
        )

    def failed(self, problem: RpcError) -> None:
        """Leave the endpoint alone for a while: the longer, the more often it failed in a row."""
        rest_s = self._timing.backoff_s(self._failures, _FIRST_REST_S, _LONGEST_REST_S)
        self._failures += 1
        self._resting_until = self._timing.monotonic() + rest_s
        self._verified_at = None
        self._problem = problem

    def answered(self) -> None:
        """Forget earlier failures."""
        self._failures = 0
        self._problem = None

    async def request(self, method: str, params: tuple[object, ...], read: Callable[[object], T]) -> T:
        """Send one call and return its result as `read` understands it. `verify_when_due` comes first.

        Raises:
            RpcUnreachableError: no usable answer.
            RpcBadAnswerError: the answer is malformed.
            RpcRefusedError: a JSON-RPC error.
        """
        return await self._call(method, params, read)

    async def verify_when_due(self, *, fresh: bool = False) -> None:
        """Make sure that the endpoint serves the right chain, and learn whether it is behind.

        Args:
            fresh: ask even if it was asked a moment ago.

        Raises:
            WrongChainError: it serves another chain.
            RpcError: it cannot be asked.
        """
        asked_at = self._timing.monotonic()
        not_before = asked_at if fresh else asked_at - self._verified_for_s
        async with self._verification:
            if self._verified_at is None or self._verified_at < not_before:
                await self._verify()

    async def _verify(self) -> None:
        """Ask for the chain and for the age of the latest block."""
        asked_at = self._timing.monotonic()
        found = await self._call("eth_chainId", (), lambda value: answers.quantity(value, "the chain's id"))
        if found != self._chain_id:
            raise WrongChainError(
                f"{self.name} serves chain {found}, not {self._chain_id}",
                "Correct chain.rpc_urls or chain.chain_id.",
            )
        latest = await self._call("eth_getBlockByNumber", ("latest", False), answers.block)
        age_s = int(self._timing.clock() - latest.timestamp)
        self.behind_s = age_s if age_s > self._behind_after_s else None
        self._verified_at = asked_at

    async def _call(self, method: str, params: tuple[object, ...], read: Callable[[object], T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                result: object = await self._web3.manager.coro_request(RPCEndpoint(method), list(params))
        except Web3RPCError as error:
            raise self._refusal(method, error) from None
        except TimeoutError:
            raise self._unreachable(f"no answer to {method} within {self._timeout_s:g} s") from None
        except (ClientError, OSError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from None
        except (Web3Exception, UnicodeDecodeError) as error:
            raise RpcBadAnswerError(
                f"{self.name} did not answer {method} as a JSON-RPC server does: {str(error)[:200]}",
                "Check that the URL in chain.rpc_urls is that of a JSON-RPC endpoint.",
            ) from None
        try:
            return read(result)
        except answers.MalformedAnswerError as error:
            raise RpcBadAnswerError(
                f"{self.name} answered {error}", "Use another endpoint in chain.rpc_urls if this stays."
            ) from None

    def _unreachable(self, reason: str) -> RpcUnreachableError:
        return RpcUnreachableError(
            f"{self.name} cannot be reached: {reason[:200]}",
            "Check the network and chain.rpc_urls; it is tried again.",
        )

    def _refusal(self, method: str, error: Web3RPCError) -> RpcError:
        answer = error.rpc_response.get("error") if error.rpc_response is not None else None
        number, text = (answer.get("code"), answer.get("message")) if isinstance(answer, dict) else (None, None)
        number = number if isinstance(number, int) else 0
        text = text if isinstance(text, str) else str(error)
        if number == _METHOD_MISSING or any(words in text.lower() for words in _OTHER_WORDS_FOR_MISSING):
            return RpcMethodMissingError(self.name, method, number, text)
        return RpcRefusedError(self.name, method, number, text)


def public_name(url: str) -> str:
    """Return the part of an endpoint's URL that may be shown: paths and user names often hold a provider's key."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port is not None else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}"
