"""HTTP to the Oracle. Whatever comes back, or does not, is a value; nothing is raised for it."""

from __future__ import annotations

import errno
import os
import ssl
from dataclasses import dataclass

import aiohttp

GREATEST_ANSWER_BYTES = 64 * 1024
"""The Oracle's longest answer, one row of history, is a few hundred bytes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP server answered.

    Attributes:
        status: HTTP status.
        body: all of it, or None where it broke off or was longer than `GREATEST_ANSWER_BYTES`.
        date: the Date header, as sent.
        location: the Location header, as sent.
        retry_after: the Retry-After header, as sent.
    """

    status: int
    body: bytes | None
    date: str | None = None
    location: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer.

    Attributes:
        cause: for people.
        sent: whether the request, or a part of it, may have reached the server.
        hung_up: whether the server closed the connection. One that is only slow may be at the request still.
    """

    cause: str
    sent: bool
    hung_up: bool = False


Reply = Answer | Silence


class OracleClient:
    """Requests to one Oracle. Each has a connection of its own: the Oracle closes idle ones after 5 s.

    Attributes:
        url: of the Oracle, without a slash at its end.
        timeout_s: the longest that a request may take where the caller gives no time of its own.
    """

    def __init__(self, url: str, *, timeout_s: float, connect_timeout_s: float = 5.0) -> None:
        """Set up; nothing is connected yet.

        Args:
            url: of the Oracle, http or https, without the dialect's path.
            timeout_s: the longest that a request may take, connecting and reading the answer included.
            connect_timeout_s: the longest that connecting may take.
        """
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s

    async def post(self, path: str, body: str, *, timeout_s: float | None = None) -> Reply:
        """Post JSON. Redirects are answers like any other: a signed body goes to nobody else."""
        return await self._request("POST", path, body.encode(), timeout_s)

    async def get(self, path: str, *, timeout_s: float | None = None) -> Reply:
        """Get `path`."""
        return await self._request("GET", path, None, timeout_s)

    async def _request(self, method: str, path: str, body: bytes | None, timeout_s: float | None) -> Reply:
        timeout = aiohttp.ClientTimeout(
            total=self.timeout_s if timeout_s is None else timeout_s,
            sock_connect=self._connect_timeout_s,
        )
        # An answer that inflates could fill the memory, so none is decompressed. An old one would mislead.
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Cache-Control": "no-cache",
            "User-Agent": "plumised",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(force_close=True),
                    timeout=timeout,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                ) as session,
                session.request(
                    method,
                    self.url + path,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                return Answer(
                    status=response.status,
                    body=await _bounded(response),
                    date=response.headers.get("Date"),
                    location=response.headers.get("Location"),
                    retry_after=response.headers.get("Retry-After"),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            return Silence(_cause(error), sent=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Silence(_cause(error), sent=True, hung_up=_hung_up(error))


async def _bounded(response: aiohttp.ClientResponse) -> bytes | None:
    body = bytearray()
    try:
        async for chunk in response.content.iter_chunked(8192):
            body += chunk
            if len(body) > GREATEST_ANSWER_BYTES:
                return None
    except (TimeoutError, aiohttp.ClientError, OSError):
        # The status has arrived and says more than the loss of the rest.
        return None
    return bytes(body)


def _hung_up(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ECONNRESET, errno.EPIPE} or isinstance(error, ConnectionResetError)
    return isinstance(error, aiohttp.ServerDisconnectedError)


def _cause(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ssl.SSLError):
            # Its number is OpenSSL's, not the system's.
            return f"no TLS connection: {error.os_error}"
        case aiohttp.ClientConnectorError():
            number = error.os_error.errno
            return os.strerror(number) if number and number > 0 else str(error.os_error)
        case aiohttp.ConnectionTimeoutError():
            return "no connection within the time allowed"
        case TimeoutError():
            return "no answer within the time allowed"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return "the connection was closed without an answer"
        case _:
            return str(error) or type(error).__name__
