"""URLs and addresses to listen on, in their one canonical form or with what is wrong about them.

Raises `UnfitError` only. URLs are not repeated in messages, since keys of paid services stand in them.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from plumised.config.problems import UnfitError
from plumised.config.values import shown

MAX_PORT = 65535

_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and TCP port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_fits(host: str) -> bool:
    numeric = re.fullmatch(r"[0-9.]+", host) is not None
    return _is_ip(host) or (not numeric and _HOST.fullmatch(host) is not None)


def url(value: str) -> str:
    """An http or https URL without credentials, query and fragment; a slash at its end is dropped."""
    if "?" in value or "#" in value:
        raise UnfitError("is a URL with a query or a fragment", "Write the URL up to its path only.")
    return rpc_url(value).rstrip("/")


def rpc_url(value: str) -> str:
    """An http or https URL without credentials; a query may be part of it."""
    remedy = 'Write a URL such as "http://localhost:8545".'
    if not _PRINTABLE.fullmatch(value):
        raise UnfitError("is not a URL: it is empty or has characters that a URL cannot have", remedy)
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UnfitError("is not a URL: its host or port is malformed", remedy) from None
    if parts.scheme not in ("http", "https"):
        raise UnfitError("is not an http or https URL", remedy)
    if "@" in parts.netloc:
        raise UnfitError(
            "is a URL with a user name or password in it, which would end in logs",
            "Remove everything up to the @, and let a local proxy add the credentials if the server wants them.",
        )
    if not host or not _host_fits(host) or port == 0 or parts.netloc.endswith(":"):
        raise UnfitError("is a URL whose host or port is malformed", remedy)
    return value


def endpoint(value: str) -> str:
    """The URL that the Oracle announces: its host must be an IP address or have a dot."""
    checked = url(value)
    host = urlsplit(checked).hostname or ""
    if not _is_ip(host) and "." not in host:
        raise UnfitError(
            "is a URL whose host is neither an IP address nor has a dot, which the Oracle refuses",
            'Write an address that others can reach, such as "http://203.0.113.7:31331".',
        )
    return checked


def listen(value: object) -> Listen | None:
    """An IP address (or localhost) and port; None, written `"off"`, stands for not listening."""
    if value is None or value == "off":
        return None
    if isinstance(value, Listen):
        return value
    remedy = 'Write an IP address and a port, as in "127.0.0.1:9464" or "[::1]:9464", or "off".'
    match = (
        re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", value) if isinstance(value, str) else None
    )
    if match is None:
        raise UnfitError(f"is {shown(value)}, not an address and port", remedy)
    host, port = match[1] or match[2], int(match[3])
    if not (_is_ip(host) and (":" in host) == bool(match[1])) and host != "localhost":
        raise UnfitError(f"is {shown(value)}, whose host is not an IP address", remedy)
    if not 1 <= port <= MAX_PORT:
        raise UnfitError(f"is {shown(value)}, and there is no such port", f"Write a port from 1 to {MAX_PORT}.")
    return Listen(host, port)
