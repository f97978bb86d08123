"""How web3 reaches an endpoint here: one HTTP session that somebody owns, bounded answers, nothing else fetched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from web3.exceptions import BadResponseFormat
from web3.providers.async_base import AsyncJSONBaseProvider

from plumised.nesting import nested_too_deeply

if TYPE_CHECKING:
    from web3.types import RPCEndpoint, RPCResponse

_LARGEST_ANSWER = 4 * 1024 * 1024
_PART = 64 * 1024
_OK = 200


class HttpStatusError(ClientError):
    """The endpoint answered an HTTP status instead of a JSON-RPC answer."""


class BoundedHttpProvider(AsyncJSONBaseProvider):
    """A web3 provider over HTTP.

    web3's own keeps its sessions in a cache that nobody closes, reads answers of any length, retries on its own account
    and may follow addresses that a contract names; none of that is wanted in a process that holds a key.

    Args:
        url: of the endpoint.
        session: used for every call, owned by the caller.
        timeout_s: for one whole call.
    """

    global_ccip_read_enabled = False

    def __init__(self, url: str, session: ClientSession, timeout_s: float) -> None:
        super().__init__()
        self._url = url
        self._session = session
        self._timeout = ClientTimeout(total=timeout_s)

    async def make_request(self, method: RPCEndpoint, params: object) -> RPCResponse:
        """Send one call and return the whole answer, error or result.

        Raises:
            TimeoutError: no complete answer in time.
            ClientError: no connection, or a status without a JSON-RPC answer.
            BadResponseFormat: the answer is too long, nested too deeply, or no JSON object.
        """
        async with self._session.post(
            self._url,
            data=self.encode_rpc_request(method, params),
            headers={"Content-Type": "application/json"},
            timeout=self._timeout,
            allow_redirects=False,
        ) as response:
            content = await _bounded(response)
        answer = _parsed(content)
        if isinstance(answer, dict):
            return cast("RPCResponse", answer)
        if response.status != _OK:
            raise HttpStatusError(f"HTTP status {response.status}")
        raise BadResponseFormat("the answer is not a JSON object")

    async def is_connected(self, show_traceback: bool = False) -> bool:  # noqa: ARG002 # of the base class
        """Return True: an endpoint counts as reachable until a call fails."""
        return True


async def _bounded(response: ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_chunked(_PART):
        content += part
        if len(content) > _LARGEST_ANSWER:
            raise BadResponseFormat(f"the answer is longer than {_LARGEST_ANSWER} bytes")
    return bytes(content)


def _parsed(content: bytes) -> object:
    try:
        text = content.decode()
        answer: object = None if nested_too_deeply(text) else json.loads(text)
    except (ValueError, RecursionError):
        return None
    return answer
