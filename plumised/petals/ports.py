"""Whether the swarm's ports are free; checked first of all, since it takes no library to tell."""

from __future__ import annotations

import errno
import re
import socket
from typing import TYPE_CHECKING, Final

from plumised.petals.failures import EngineError

if TYPE_CHECKING:
    from plumised.ipc.job import EngineJob

_LISTEN: Final = re.compile(r"/(ip4|ip6)/([^/]+)/(tcp|udp)/(\d+)(?:/.*)?")


def check_ports(job: EngineJob) -> None:
    """Refuse to start beside another program on the same port; p2pd would fail with less to say.

    Raises:
        EngineError: `port-taken` or `listen-address`.
    """
    for address in job.listen:
        match = _LISTEN.fullmatch(address)
        if match is None or match[4] == "0":
            continue
        family = socket.AF_INET if match[1] == "ip4" else socket.AF_INET6
        kind = socket.SOCK_STREAM if match[3] == "tcp" else socket.SOCK_DGRAM
        with socket.socket(family, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((match[2], int(match[4])))
            except OSError as error:
                raise _bind_failure(address, error) from error


def _bind_failure(address: str, error: OSError) -> EngineError:
    if error.errno == errno.EADDRINUSE:
        return EngineError(
            "port-taken",
            f"another program listens on {address}",
            "Stop that program, or choose another port in [swarm] listen; each node of a machine needs its own.",
            permanent=False,
        )
    return EngineError(
        "listen-address",
        f"cannot listen on {address}: {error.strerror}",
        "[swarm] listen must name addresses of this machine and ports that the service may use.",
        permanent=error.errno in (errno.EACCES, errno.EADDRNOTAVAIL),
    )
