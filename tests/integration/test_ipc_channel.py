"""Both ends of the engine's socket, connected: channels in threads and processes, one server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from plumised.engine.errors import SocketError
from plumised.engine.server import EngineSocket, SocketLimits
from plumised.ipc.channel import Channel, Pace
from plumised.ipc.codec import Decoder, encode
from plumised.ipc.messages import (
    PROTOCOL,
    Beat,
    Counters,
    Failure,
    Hello,
    Message,
    Phase,
    Refused,
    Role,
    Sandbox,
    State,
    Usage,
    Welcome,
)
from tests.integration.bench import DEADLINE_S, eventually

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Pace(interval_s=0.01, first_retry_s=0.01, longest_retry_s=0.05)
INCARNATION = "3f2a"


@dataclass
class Ear:
    """Remembers what it heard."""

    present: set[Hello] = field(default_factory=set)
    heard: list[tuple[Hello, Message]] = field(default_factory=list)

    def connected(self, sender: Hello) -> None:
        self.present.add(sender)

    def received(self, sender: Hello, message: Usage | State | Sandbox | Beat | Failure) -> None:
        self.heard.append((sender, message))

    def disconnected(self, sender: Hello) -> None:
        self.present.remove(sender)

    def messages(self, index: int = 0) -> list[Message]:
        return [message for sender, message in self.heard if sender.index == index]


def hello(index: int = 0, *, protocol: int = PROTOCOL, pid: int = 0, role: Role = Role.HANDLER) -> Hello:
    return Hello(protocol, INCARNATION, role, index, pid or os.getpid())


def usage(tokens: int) -> Usage:
    return Usage(Counters(tokens=tokens), Counters(), Counters())


def opened(path: Path, ear: Ear, limits: SocketLimits | None = None) -> EngineSocket:
    """A server that takes this process, which is of its own session, for the engine's."""
    server = EngineSocket(path, ear, limits)
    server.expect(INCARNATION, os.getsid(0))
    return server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.sock"


async def converse(path: Path, data: bytes, *, ends: bool = True) -> list[Message]:
    """Send bytes over a connection of its own and return what is answered until it is closed, or at once."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    decoder = Decoder()
    answer = await asyncio.wait_for(reader.read() if ends else reader.read(1000), DEADLINE_S)
    writer.close()
    return decoder.feed(answer)


async def test_what_is_published_arrives_with_its_sender(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear):
        channel = Channel(path, hello(3), pace=QUICK)
        channel.start()
        sent: list[Usage | Beat | Failure] = [usage(7), Beat(loop=1), Failure("x", "m", "r", permanent=False)]
        for message in sent:
            channel.publish(message)
        assert await asyncio.to_thread(channel.close, DEADLINE_S)
        await eventually(lambda: len(ear.heard) == 3)
        assert set(ear.messages(3)) == set(sent)


async def test_many_handlers_speak_at_once_and_each_is_heard(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear):
        channels = [Channel(path, hello(index), pace=QUICK) for index in range(32)]
        for channel in channels:
            channel.start()
        for tokens in range(50):
            for channel in channels:
                channel.publish(usage(tokens))
            await asyncio.sleep(0)
        for channel in channels:
            assert await asyncio.to_thread(channel.close, DEADLINE_S)
        await eventually(lambda: not ear.present)
        assert all(ear.messages(index)[-1] == usage(49) for index in range(32))


async def test_only_the_latest_of_each_type_is_kept(path: Path) -> None:
    ear = Ear()
    channel = Channel(path, hello(), pace=QUICK)
    for tokens in range(1000):
        channel.publish(usage(tokens))
    async with opened(path, ear):
        channel.start()
        assert await asyncio.to_thread(channel.close, DEADLINE_S)
        await eventually(lambda: bool(ear.heard))
        assert ear.messages() == [usage(999)]


async def test_after_a_reconnection_the_latest_of_everything_is_sent_again(path: Path) -> None:
    channel = Channel(path, hello(), pace=QUICK)
    channel.start()
    before, after = Ear(), Ear()
    async with opened(path, before):
        channel.publish(usage(1))
        channel.publish(Beat(loop=1))
        await eventually(lambda: len(before.heard) == 2)
    channel.publish(usage(2))
    async with opened(path, after):
        await eventually(lambda: len(after.heard) == 2)
        assert after.messages() == [usage(2), Beat(loop=1)]
        assert await asyncio.to_thread(channel.close, DEADLINE_S)


async def test_the_daemon_may_come_later_than_the_engine(path: Path) -> None:
    channel = Channel(path, hello(), pace=QUICK)
    channel.start()
    channel.publish(usage(1))
    ear = Ear()
    async with opened(path, ear):
        await eventually(lambda: ear.messages() == [usage(1)])
        assert await asyncio.to_thread(channel.close, DEADLINE_S)


def test_closing_without_a_daemon_tells_that_something_is_unsent(path: Path) -> None:
    channel = Channel(path, hello(), pace=QUICK)
    channel.start()
    channel.publish(usage(1))
    assert not channel.close(5.0)


def test_closing_what_never_started_is_harmless(path: Path) -> None:
    channel = Channel(path, hello(), pace=QUICK)
    assert channel.close(1.0)
    channel.publish(usage(1))


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (hello(protocol=PROTOCOL + 1), "protocol"),
        (Hello(PROTOCOL, "another", Role.HANDLER, 0, os.getpid()), "incarnation"),
        (hello(pid=1), "credentials"),
    ],
)
async def test_a_refused_channel_is_told_why_and_does_not_come_back(path: Path, greeting: Hello, code: str) -> None:
    refusals: list[Refused] = []
    async with opened(path, Ear()):
        channel = Channel(path, greeting, pace=QUICK, on_refused=refusals.append)
        channel.start()
        await eventually(lambda: bool(refusals))
        assert refusals[0].code == code
        assert channel.refusal == refusals[0]
        await asyncio.to_thread(channel.close, DEADLINE_S)
        assert len(refusals) == 1


async def test_a_process_of_another_session_is_refused(path: Path) -> None:
    ear = Ear()
    script = (
        "import os, socket, sys; from plumised.ipc.codec import encode; from plumised.ipc.messages import Hello, Role\n"
        "connection = socket.socket(socket.AF_UNIX); connection.connect(sys.argv[1])\n"
        f"connection.sendall(encode(Hello({PROTOCOL}, {INCARNATION!r}, Role.HANDLER, 0, os.getpid())))\n"
        "print(connection.recv(1000)[4:].decode())\n"
    )
    async with opened(path, ear):
        stranger = subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, start_new_session=True
        )
        answer, _ = await asyncio.to_thread(stranger.communicate, timeout=DEADLINE_S)
    assert b"credentials" in answer
    assert ear.heard == []


async def test_a_handler_cannot_pose_as_the_main_process(path: Path) -> None:
    async with opened(path, Ear()) as server:
        server.expect(INCARNATION, os.getpid() + 1)
        [answer] = await converse(path, encode(hello(role=Role.MAIN)))
        assert isinstance(answer, Refused)
        assert answer.code == "credentials"
        assert "main process" in answer.message


async def test_without_an_engine_nobody_is_let_in(path: Path) -> None:
    async with EngineSocket(path, Ear()):
        [answer] = await converse(path, encode(hello()))
        assert isinstance(answer, Refused)
        assert answer.code == "incarnation"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 2**31), b"\x00\x00\x00\x02{}", encode(Welcome(PROTOCOL))]
)
async def test_a_connection_that_does_not_say_hello_is_refused(path: Path, data: bytes) -> None:
    async with opened(path, Ear()):
        [answer] = await converse(path, data)
        assert isinstance(answer, Refused)
        assert answer.code == "malformed"


async def test_a_connection_that_says_nothing_is_closed_after_the_deadline(path: Path) -> None:
    async with opened(path, Ear(), SocketLimits(hello_s=0.05)):
        assert await converse(path, b"") == []


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 10,
        struct.pack(">I", 65537) + b"{",
        encode(hello()),
        encode(Refused("x", "y")),
        encode(State(Phase.ONLINE)),
    ],
    ids=["noise", "a frame too long", "a second hello", "what only the daemon says", "a state from a handler"],
)
async def test_nonsense_after_the_hello_closes_that_connection_and_no_other(path: Path, data: bytes) -> None:
    ear = Ear()
    async with opened(path, ear):
        other = Channel(path, hello(1), pace=QUICK)
        other.start()
        other.publish(usage(1))
        await eventually(lambda: ear.messages(1) == [usage(1)])
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(encode(hello(0)))
        await eventually(lambda: hello(0) in ear.present)
        writer.write(data)
        assert Decoder().feed(await asyncio.wait_for(reader.read(), DEADLINE_S)) == [Welcome(PROTOCOL)]
        writer.close()
        await eventually(lambda: ear.present == {hello(1)})
        other.publish(usage(2))
        await eventually(lambda: ear.messages(1)[-1] == usage(2))
        assert ear.messages(0) == []
        assert await asyncio.to_thread(other.close, DEADLINE_S)


async def test_a_frame_that_comes_in_pieces_is_one_frame(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear):
        _, writer = await asyncio.open_unix_connection(path)
        for byte in encode(hello()) + encode(usage(5)):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        await eventually(lambda: ear.messages() == [usage(5)])
        writer.close()


async def test_a_connection_over_the_limit_is_closed_unheard(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear, SocketLimits(connections=1)):
        channel = Channel(path, hello(0), pace=QUICK)
        channel.start()
        await eventually(lambda: len(ear.present) == 1)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()
        assert ear.present == {hello(0)}
        assert await asyncio.to_thread(channel.close, DEADLINE_S)


async def test_a_second_connection_of_a_process_takes_the_place_of_the_first(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear):
        first, keep = await asyncio.open_unix_connection(path)
        keep.write(encode(hello()))
        await eventually(lambda: bool(ear.present))
        _, second = await asyncio.open_unix_connection(path)
        second.write(encode(hello()) + encode(usage(2)))
        await asyncio.wait_for(first.read(), DEADLINE_S)
        await eventually(lambda: ear.messages() == [usage(2)])
        assert ear.present == {hello()}
        keep.close()
        second.close()


async def test_another_incarnation_ends_the_connections_of_the_last(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear) as server:
        channel = Channel(path, hello(), pace=QUICK)
        channel.start()
        await eventually(lambda: bool(ear.present))
        server.expect("following", os.getsid(0))
        await eventually(lambda: channel.refusal is not None)
        assert ear.present == set()
        await asyncio.to_thread(channel.close, DEADLINE_S)


async def test_a_child_of_a_fork_does_not_keep_the_connection_open(path: Path) -> None:
    ear = Ear()
    script = (
        "import os, signal, sys; from pathlib import Path; from plumised.ipc.channel import Channel\n"
        "from plumised.ipc.messages import Beat, Hello, Role\n"
        f"channel = Channel(Path(sys.argv[1]), Hello({PROTOCOL}, {INCARNATION!r}, Role.HANDLER, 0, os.getpid()))\n"
        "channel.start(); channel.publish(Beat(loop=1)); sys.stdin.readline()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try: channel.publish(Beat(loop=2))\n"
        "    except RuntimeError: os.write(1, b'not mine\\n')\n"
        "    signal.pause()\n"
        "os.write(1, b'%d\\n' % child); sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    async with opened(path, ear):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            await eventually(lambda: ear.messages() == [Beat(loop=1)])
            process.stdin.write(b"fork\n")
            lines = {await asyncio.to_thread(process.stdout.readline) for _ in range(2)}
            assert b"not mine\n" in lines
            process.stdin.write(b"die\n")
            await eventually(lambda: not ear.present)
            [child] = (int(line) for line in lines if line.strip().isdigit())
            os.kill(child, signal.SIGKILL)


async def test_nobody_else_may_connect_and_nothing_is_left(path: Path) -> None:
    async with opened(path, Ear()):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_the_file_of_a_dead_daemon_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with opened(path, Ear()):
        assert await converse(path, encode(hello()), ends=False) == [Welcome(PROTOCOL)]


async def test_the_socket_of_a_living_daemon_is_left_alone(path: Path) -> None:
    async with opened(path, Ear()):
        with pytest.raises(SocketError, match="another program listens"):
            async with opened(path, Ear()):
                pass
        assert await converse(path, encode(hello()), ends=False) == [Welcome(PROTOCOL)]


async def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(SocketError, match="no socket"):
        async with opened(path, Ear()):
            pass
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["x" * 120, "nowhere/engine.sock"])
async def test_a_place_where_no_socket_can_be_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SocketError, match=name):
        async with opened(tmp_path / name, Ear()):
            pass


async def test_what_was_said_before_the_end_is_heard_before_silence(path: Path) -> None:
    ear = Ear()
    async with opened(path, ear) as server:
        channel = Channel(path, hello(), pace=QUICK)
        channel.start()
        channel.publish(Failure("x", "m" * 10**5, "\udcff", permanent=False))
        await asyncio.to_thread(channel.close, DEADLINE_S)
        await server.silence(DEADLINE_S)
        [failure] = ear.messages()
        assert isinstance(failure, Failure)
        assert (len(failure.message), failure.remedy) == (4096, "?")


async def test_a_daemon_that_does_not_read_does_not_hold_up_who_publishes(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        channel = Channel(path, hello(), pace=QUICK)
        channel.start()
        for tokens in range(2000):
            channel.publish(usage(tokens))
        assert not await asyncio.to_thread(channel.close, 0.05)
