"""HTTP against real sockets that misbehave: every answer and every silence is a value."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from plumised.oracle.client import GREATEST_ANSWER_BYTES, Answer, OracleClient, Silence

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[OracleClient]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(served, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        yield OracleClient(f"http://127.0.0.1:{port}/", timeout_s=5.0)


def answering(raw: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()

    return talk


async def test_an_answer_comes_with_status_body_and_date() -> None:
    raw = b"HTTP/1.1 201 Created\r\nDate: Mon, 02 Feb 2026 02:40:00 GMT\r\nContent-Length: 2\r\n\r\n{}"
    async with server(answering(raw)) as client:
        assert await client.post("/x", "{}") == Answer(201, b"{}", "Mon, 02 Feb 2026 02:40:00 GMT")


async def test_what_is_sent_is_the_body_to_the_byte_on_a_connection_of_its_own() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.put_nowait(head + await reader.readexactly(len(b'{"a":"\xc3\xa9"}')))
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        heard.put_nowait(await reader.read())

    async with server(talk) as client:
        for _ in range(2):
            await client.post("/api/v1/report", '{"a":"é"}')
            async with asyncio.timeout(10):
                request, afterwards = await heard.get(), await heard.get()
            assert request.startswith(b"POST /api/v1/report HTTP/1.1\r\n")
            assert b"\r\nContent-Type: application/json\r\n" in request
            assert request.endswith(b'{"a":"\xc3\xa9"}')
            assert afterwards == b""


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    raw = b"HTTP/1.1 302 Found\r\nLocation: http://203.0.113.7/\r\nContent-Length: 0\r\n\r\n"
    async with server(answering(raw)) as client:
        reply = await client.post("/x", "{}")
    assert isinstance(reply, Answer)
    assert (reply.status, reply.location) == (302, "http://203.0.113.7/")


async def test_an_endless_answer_is_cut() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(GREATEST_ANSWER_BYTES // 1024 * 20):
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    async with server(talk) as client:
        assert await client.get("/x") == Answer(201, None)


async def test_an_answer_that_breaks_off_still_tells_its_status() -> None:
    async with server(answering(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")) as client:
        assert await client.get("/x") == Answer(201, None)


async def test_compressed_answers_are_not_inflated() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"
    async with server(answering(raw)) as client:
        assert await client.get("/x") == Answer(200, b"\x1f\x8b\x08")


async def test_a_connection_that_closes_without_answer_is_silence_after_sending() -> None:
    async with server(answering(b"")) as client:
        reply = await client.post("/x", "{}")
    assert isinstance(reply, Silence)
    assert reply.sent
    assert reply.hung_up


async def test_a_connection_that_is_reset_was_hung_up() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async with server(talk) as client:
        reply = await client.post("/x", "{}")
    assert isinstance(reply, Silence)
    assert (reply.sent, reply.hung_up) == (True, True)


async def test_garbage_is_silence_after_sending() -> None:
    async with server(answering(b"\x00\xff\x00 what is HTTP?\r\n\r\n")) as client:
        reply = await client.post("/x", "{}")
    assert isinstance(reply, Silence)
    assert reply.sent
    assert reply.cause


async def test_an_answer_that_never_comes_ends_with_the_deadline() -> None:
    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server(talk) as client:
        assert await client.post("/x", "{}", timeout_s=0.1) == Silence("no answer within the time allowed", sent=True)


async def test_an_answer_that_drips_ends_with_the_deadline() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with server(talk) as client:
        reply = await client.post("/x", "{}", timeout_s=0.2)
    assert reply in {Answer(201, None), Silence("no answer within the time allowed", sent=True)}


async def test_a_port_where_nobody_listens_is_silence_before_sending() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = OracleClient(f"http://127.0.0.1:{reserved.getsockname()[1]}", timeout_s=5.0)
        reply = await client.post("/x", "{}")
    assert reply == Silence("Connection refused", sent=False)


async def test_a_server_without_tls_where_tls_is_wanted_is_silence_before_sending() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with server(talk) as client:
        reply = await OracleClient(client.url.replace("http:", "https:"), timeout_s=5.0).post("/x", "{}")
    assert isinstance(reply, Silence)
    assert not reply.sent
    assert reply.cause.startswith("no TLS connection")


async def test_an_address_that_is_none_is_silence_before_sending() -> None:
    reply = await OracleClient("http://", timeout_s=5.0).get("/x")
    assert isinstance(reply, Silence)
    assert not reply.sent
