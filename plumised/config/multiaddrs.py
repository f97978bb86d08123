"""libp2p's multiaddresses, such as /ip4/192.0.2.1/tcp/31330/p2p/12D3KooW…, as far as p2pd takes them.

The protocols and their values follow https://github.com/multiformats/multiaddr/blob/master/protocols.csv; peer ids are
base58btc multihashes as in https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md.
"""

from __future__ import annotations

import ipaddress
import re

from plumised.config.problems import UnfitError
from plumised.config.urls import MAX_PORT
from plumised.config.values import shown

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_NETWORKS = ("ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr")
_PLAIN = ("quic", "quic-v1", "ws", "wss", "tls", "noise", "p2p-circuit")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")
_SHA256, _IDENTITY = 0x12, 0x00
_MAX_PEER_ID = 64
_MAX_IDENTITY = 42

_EXAMPLE = "/ip4/203.0.113.7/tcp/31330"
_PEER_EXAMPLE = f"{_EXAMPLE}/p2p/12D3KooW…"


def is_peer_id(text: str) -> bool:
    """Whether the text is a libp2p peer id in base58: a SHA-256 multihash, or a short key by itself."""
    if not 0 < len(text) <= _MAX_PEER_ID or any(letter not in _ALPHABET for letter in text):
        return False
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    code, length, digest = raw[0] if raw else -1, raw[1] if len(raw) > 1 else -1, raw[2:]
    return len(digest) == length and (
        (code == _SHA256 and length == 32)  # noqa: PLR2004 - bytes of a SHA-256 digest
        or (code == _IDENTITY and 0 < length <= _MAX_IDENTITY)
    )


def _parts(value: str, remedy: str) -> list[tuple[str, str]]:
    """The protocols of a multiaddress with their values, each checked by itself."""

    def unfit(why: str) -> UnfitError:
        return UnfitError(f"holds {shown(value)}, not a multiaddress: {why}", remedy)

    if not value.startswith("/"):
        raise unfit("it does not begin with a slash")
    words = iter(value.removesuffix("/").split("/")[1:])
    parts: list[tuple[str, str]] = []
    for protocol in words:
        if protocol in _PLAIN:
            parts.append((protocol, ""))
            continue
        if protocol not in (*_NETWORKS, "tcp", "udp", "p2p"):
            raise unfit(f"{shown(protocol)} is not a protocol it may have")
        argument = next(words, "")
        if not _argument_fits(protocol, argument):
            raise unfit(f"{shown(argument)} is not a value for /{protocol}")
        parts.append((protocol, argument))
    if not parts:
        raise unfit("it is empty")
    return parts


def _argument_fits(protocol: str, argument: str) -> bool:
    match protocol:
        case "ip4" | "ip6":
            try:
                parsed = ipaddress.ip_address(argument)
            except ValueError:
                return False
            return parsed.version == int(protocol[2])
        case "tcp" | "udp":
            return re.fullmatch(r"[0-9]{1,5}", argument) is not None and int(argument) <= MAX_PORT
        case "p2p":
            return is_peer_id(argument)
        case _:
            return _HOST.fullmatch(argument) is not None


def _transport(value: str, parts: list[tuple[str, str]], remedy: str) -> None:
    if parts[0][0] not in _NETWORKS:
        raise UnfitError(f"holds {shown(value)}, which does not begin with a host", remedy)
    if parts[0][0] != "dnsaddr" and (len(parts) == 1 or parts[1][0] not in ("tcp", "udp")):
        raise UnfitError(f"holds {shown(value)}, which names no TCP or UDP port after the host", remedy)


def listen_address(value: str) -> str:
    """A multiaddress to listen on: an IP address and a port (0 for any), no peer id."""
    remedy = 'Write an address of this machine, as in "/ip4/0.0.0.0/tcp/31330".'
    parts = _parts(value, remedy)
    _transport(value, parts, remedy)
    if parts[0][0] not in ("ip4", "ip6"):
        raise UnfitError(f"holds {shown(value)}, and one can listen on IP addresses only", remedy)
    return _without_peer(value, parts)


def announced_address(value: str) -> str:
    """A multiaddress under which others reach this node: no peer id, a port that is not 0."""
    remedy = f'Write the address that others can reach, as in "{_EXAMPLE}".'
    parts = _parts(value, remedy)
    _transport(value, parts, remedy)
    if any(protocol in ("tcp", "udp") and int(port) == 0 for protocol, port in parts):
        raise UnfitError(f"holds {shown(value)}, and nobody can reach port 0", remedy)
    return _without_peer(value, parts)


def peer_address(value: str) -> str:
    """A multiaddress of another peer, its peer id included."""
    remedy = f'Write the address with the peer id at its end, as in "{_PEER_EXAMPLE}".'
    parts = _parts(value, remedy)
    _transport(value, parts, remedy)
    if parts[-1][0] != "p2p":
        raise UnfitError(f"holds {shown(value)}, which does not end with a peer id", remedy)
    return value


def _without_peer(value: str, parts: list[tuple[str, str]]) -> str:
    if any(protocol == "p2p" for protocol, _ in parts):
        raise UnfitError(f"holds {shown(value)}, which has a peer id", "Remove /p2p/ and what follows; it is added.")
    return value
