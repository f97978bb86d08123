"""A port that another program has is told before anything is loaded."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from plumised.ipc.job import EngineJob
from plumised.petals.failures import EngineError
from plumised.petals.ports import check_ports

JOB = EngineJob("life-1", "/s", "/t", "/r", "/c", "/models/tiny", "/i")


@pytest.mark.parametrize(
    ("kind", "family", "address", "multiaddress"),
    [
        (socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1/tcp/{}"),
        (socket.SOCK_STREAM, socket.AF_INET6, "::1", "/ip6/::1/tcp/{}"),
        (socket.SOCK_DGRAM, socket.AF_INET, "127.0.0.1", "/ip4/127.0.0.1/udp/{}/quic"),
        (socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1", "/ip4/0.0.0.0/tcp/{}"),
    ],
    ids=["ip4", "ip6", "udp", "any"],
)
def test_a_taken_port_is_named(kind: int, family: int, address: str, multiaddress: str) -> None:
    with socket.socket(family, kind) as taken:
        taken.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        listen = multiaddress.format(taken.getsockname()[1])
        with pytest.raises(EngineError) as raised:
            check_ports(replace(JOB, listen=(listen,)))
    failure = raised.value.failure
    assert (failure.code, failure.permanent) == ("port-taken", False)
    assert listen in failure.message


def test_a_port_that_was_used_a_moment_ago_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            accepted.close()
    check_ports(replace(JOB, listen=(f"/ip4/127.0.0.1/tcp/{port}",)))


def test_an_address_of_another_machine_is_refused_for_good() -> None:
    # TEST-NET-1 of RFC 5737: nobody has it.
    with pytest.raises(EngineError) as raised:
        check_ports(replace(JOB, listen=("/ip4/192.0.2.1/tcp/31330",)))
    assert (raised.value.failure.code, raised.value.failure.permanent) == ("listen-address", True)


def test_any_port_and_names_are_left_to_p2pd() -> None:
    check_ports(replace(JOB, listen=("/ip4/127.0.0.1/tcp/0", "/dns4/localhost/tcp/31330")))
