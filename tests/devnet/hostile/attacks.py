"""What a hostile peer can do to a node."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgpack
import torch
from hivemind import P2P, MSGPackSerializer, PeerID, serialize_torch_tensor
from hivemind.p2p.p2p_daemon_bindings.control import P2PDaemonError, P2PHandlerError
from hivemind.p2p.p2p_daemon_bindings.utils import DispatchFailure
from hivemind.proto import dht_pb2, runtime_pb2
from hivemind.utils.timed_storage import get_dht_time

from tests.devnet.hostile.malformed import INFERENCE, PASSES, Target, malformed

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANSWERS_WITHIN_S: Final = 20.0
_SILENT_FOR_S: Final = 30.0
_MIB: Final = 2**20
Outcomes = dict[str, str]


class Attacks:
    """What a hostile peer can do to a node.

    Args:
        p2p: of this peer.
        address: of the node.
        target: what it serves.
    """

    def __init__(self, p2p: P2P, address: str, target: Target) -> None:
        self._p2p = p2p
        self._address = address
        self._peer = PeerID.from_base58(address.rpartition("/p2p/")[2])
        self._target = target
        self._open: list[Any] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def served(self) -> Outcomes:
        """A well-formed pass, to see that this peer is served at all."""
        return {"pass": await self._call("rpc_forward", self._target.well_formed("rpc_forward").message())}

    async def malformed(self) -> Outcomes:
        """Every malformed request to every RPC that takes hidden states."""
        outcomes = {}
        for rpc in (*PASSES, INFERENCE):
            for name, parts in malformed(self._target, rpc):
                outcomes[f"{rpc}: {name}"] = await self._call(rpc, parts.message())
        return outcomes

    async def malformed_otherwise(self) -> Outcomes:
        """The same to the other RPCs, and what is malformed in the course of several messages."""
        target, good = self._target, self._target.well_formed(INFERENCE)
        outcomes = {}
        for name, uid in (("unknown block", "who.0"), ("a megabyte", "x" * _MIB)):
            outcomes[f"rpc_info: {name}"] = await self._call("rpc_info", runtime_pb2.ExpertUID(uid=uid))
        for name, parts in malformed(target, INFERENCE):
            if not name.startswith("session"):
                outcomes[f"rpc_push: {name}"] = await self._call("rpc_push", parts.message())
        outcomes["rpc_push: without a session"] = await self._call("rpc_push", good.message())
        second: dict[str, Any] = {
            "another batch": target.well_formed(INFERENCE, batch=2, length=1),
            "more than was reserved": target.well_formed(INFERENCE, length=15),
        }
        for name, parts in second.items():
            outcomes[f"second step: {name}"] = await self._call(INFERENCE, good.message(), parts.message())
        first, other = target.well_formed("rpc_forward_stream"), target.well_formed("rpc_forward_stream")
        other_blocks = runtime_pb2.ExpertRequest(uid=target.uids[0], tensors=other.tensors)
        outcomes["stream: other blocks"] = await self._call("rpc_forward_stream", first.message(), other_blocks)
        headless = runtime_pb2.ExpertRequest(uid=first.uid, tensors=[runtime_pb2.Tensor(buffer=b"x")])
        outcomes["stream: a part of nothing"] = await self._call("rpc_forward_stream", headless)
        empty = target.well_formed(INFERENCE, length=0).message()
        outcomes["steps without tokens"] = await self._call(INFERENCE, *[empty] * 100)
        outcomes["a method that there is not"] = await self._call("rpc_shutdown", good.message())
        return outcomes

    async def no_protocol(self) -> Outcomes:
        """What is no message on streams that are open."""
        absurd = {
            "random": random.Random(1).randbytes(100_000),
            "no marker": b"\x07" + bytes(100),
            "an absurd length": b"\x00" + b"\x7f" * 8 + bytes(1000),
            "an absurd end": b"\x01" + b"\x7f" * 8 + bytes(1000),
            "no protobuf": b"\x00" + (100).to_bytes(8, "big") + b"\xff" * 100,
            "an end first": b"\x01" + bytes(8),
            "an end, and more": (b"\x01" + bytes(8)) * 1000,
        }
        return {name: await self._write(content) for name, content in absurd.items()}

    async def garbage(self, connections: int) -> Outcomes:
        """Bytes to the port itself, of which p2pd is to make something."""
        parts = self._address.split("/")
        host, port = parts[2], int(parts[4])
        noise = random.Random(2)
        contents = [
            noise.randbytes(4096),
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x13/multistream/1.0.0\n" * 100,
            b"\x00" * 4096,
            b"",
        ]
        for number in range(connections):
            with suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                self._open.append(writer)
                writer.write(contents[number % len(contents)])
                await writer.drain()
        return {"connections": str(len(self._open))}

    async def silent_streams(self, count: int) -> Outcomes:
        """Streams on which nothing is said, and which stay open."""
        opened = 0
        for _ in range(count):
            with suppress(P2PDaemonError, DispatchFailure, TimeoutError):
                async with asyncio.timeout(_ANSWERS_WITHIN_S):
                    self._open.append((await self._open_stream(INFERENCE))[1])
                    opened += 1
        return {"streams": str(opened)}

    async def reserve(self, count: int, length: int) -> Outcomes:
        """Sessions that reserve attention cache with a first step, and stay open."""
        outcomes: Counter[str] = Counter()
        for _ in range(count):
            reader, writer = await self._open_stream(INFERENCE)
            self._open.append(writer)
            message = self._target.well_formed(INFERENCE, length=1, max_length=length).message()
            outcomes[await self._exchange(reader, writer, message)] += 1
        return {name: str(number) for name, number in outcomes.items()}

    async def reserve_and_leave(self, count: int) -> Outcomes:
        """Sessions that reserve attention cache, compute nothing, and end."""
        outcomes: Counter[str] = Counter()
        empty = self._target.well_formed(INFERENCE, length=0).message()
        for _ in range(count):
            outcomes[await self._call(INFERENCE, empty)] += 1
        return {name: str(number) for name, number in outcomes.items()}

    async def oversized(self, mebibytes: int) -> Outcomes:
        """One message of that size, on a stream; and one that is too large for a call."""
        message = b"\x00" + (mebibytes * _MIB).to_bytes(8, "big")
        outcomes = {"announced": await self._write(message, more=mebibytes * _MIB)}
        states = serialize_torch_tensor(torch.zeros(1, 4 * _MIB // self._target.hidden // 4, self._target.hidden))
        parts = self._target.well_formed("rpc_forward")
        large = runtime_pb2.ExpertRequest(uid=parts.uid, tensors=[states, parts.tensors[1]], metadata=parts.metadata)
        return {**outcomes, "call": await self._call("rpc_forward", large)}

    async def trickle(self, count: int) -> Outcomes:
        """Messages of which only a part ever comes."""
        for _ in range(count):
            _, writer = await self._open_stream("rpc_forward_stream")
            self._open.append(writer)
            writer.write(b"\x00" + (4 * _MIB).to_bytes(8, "big") + bytes(_MIB))
            with suppress(TimeoutError, OSError):
                # It is not read any more where there is no room for it.
                async with asyncio.timeout(0.2):
                    await writer.drain()
        return {"streams": str(count)}

    async def calls(self, count: int, length: int) -> Outcomes:
        """Passes all at the same time."""
        message = self._target.well_formed("rpc_forward", length=length).message()
        outcomes = Counter(await asyncio.gather(*(self._call("rpc_forward", message) for _ in range(count))))
        return {name: str(number) for name, number in outcomes.items()}

    async def ask_and_forget(self, count: int, length: int) -> Outcomes:
        """Passes that are begun and not waited for: nobody reads what comes of them."""
        message = self._target.well_formed("rpc_forward_stream", length=length).message()
        for _ in range(count):
            # It may be refused while it is still being sent.
            with suppress(P2PDaemonError, DispatchFailure, OSError, TimeoutError):
                _, writer = await self._open_stream("rpc_forward_stream")
                await P2P.send_protobuf(message, writer)
                await P2P.send_protobuf(P2P.END_OF_STREAM, writer)
                writer.close()
        return {"passes": str(count)}

    async def begin_steps(self, count: int, length: int) -> Outcomes:
        """Sessions with a step under way; whoever does this is to vanish next."""
        message = self._target.well_formed(INFERENCE, length=length, max_length=length).message()
        for _ in range(count):
            _, writer = await self._open_stream(INFERENCE)
            self._open.append(writer)
            await P2P.send_protobuf(message, writer)
        return {"steps": str(count)}

    async def pushes(self, count: int) -> Outcomes:
        """More steps pushed to a session of this peer's own than that can take, of no use to it."""
        first = self._target.well_formed(INFERENCE, session_id="mine", step_id="same").message()
        reader, writer = await self._open_stream(INFERENCE)
        self._open.append(writer)
        outcomes = {"first step": await self._exchange(reader, writer, first)}
        push = self._target.well_formed(INFERENCE, length=1, session_id="mine", step_id="same", pushed=True).message()
        told = Counter([await self._call("rpc_push", push) for _ in range(count)])
        return {**outcomes, **{f"push {name}": str(number) for name, number in told.items()}}

    async def store(self, mebibytes: int) -> Outcomes:
        """Values for the node's part of the DHT; nesting, expirations and numbers of keys that make no sense."""
        value, soon = bytes(_MIB), 60.0
        outcomes: Counter[str] = Counter()
        for number in range(mebibytes):
            outcomes[await self._store([number], value, soon)] += 1
        found = {f"values: {name}": str(number) for name, number in outcomes.items()}
        found["for ever"] = await self._store([10**6], b"x", 1e12)
        found["until no time"] = await self._store([10**6 + 1], b"x", float("nan"))
        found["nested"] = await self._store([10**6 + 2], _nested_dictionary(), soon, subkeys=b"")
        found["many keys"] = await self._store(range(50_000), b"x", soon)
        keys = [number.to_bytes(20, "big") for number in range(50_000)]
        request = dht_pb2.FindRequest(keys=keys)
        found["many keys sought"] = await self._named("DHTProtocol.rpc_find", request, dht_pb2.FindResponse)
        return found

    async def let_go(self) -> Outcomes:
        """Close everything that is open."""
        for writer in self._open:
            writer.close()
        closed = len(self._open)
        self._open.clear()
        return {"closed": str(closed)}

    async def _store(self, numbers: Iterable[int], value: bytes, lasts_s: float, subkeys: bytes | None = None) -> str:
        keys = [number.to_bytes(20, "big") for number in numbers]
        subkey = MSGPackSerializer.dumps(None) if subkeys is None else subkeys
        expiration = get_dht_time() + lasts_s
        count = len(keys)
        request = dht_pb2.StoreRequest(
            keys=keys,
            subkeys=[subkey] * count,
            values=[value] * count,
            expiration_time=[expiration] * count,
            in_cache=[False] * count,
        )
        return await self._named("DHTProtocol.rpc_store", request, dht_pb2.StoreResponse)

    async def _call(self, rpc: str, *messages: Any) -> str:
        if rpc.endswith("_stream") or rpc == INFERENCE:
            try:
                reader, writer = await self._open_stream(rpc)
            except (P2PDaemonError, DispatchFailure, TimeoutError) as error:
                return f"refused: {error}"[:200]
            try:
                if rpc == INFERENCE:
                    outcome = ""
                    for message in messages:
                        outcome = await self._exchange(reader, writer, message)
                        if outcome != "served":
                            break
                    return outcome
                return await self._exchange(reader, writer, *messages, P2P.END_OF_STREAM)
            finally:
                writer.close()
        reply = runtime_pb2.ExpertInfo if rpc == "rpc_info" else runtime_pb2.ExpertResponse
        return await self._named(f"TransformerConnectionHandler.{rpc}", messages[0], reply)

    async def _named(self, name: str, message: Any, reply: Any) -> str:
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                answer = await self._p2p.call_protobuf_handler(self._peer, name, message, reply)
        except TimeoutError:
            return "silence"
        except (P2PHandlerError, P2PDaemonError, DispatchFailure) as error:
            return f"refused: {error}"[:200]
        if isinstance(answer, dht_pb2.StoreResponse) and not all(answer.store_ok):
            return "refused: not stored"
        return "served"

    async def _open_stream(self, rpc: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = f"TransformerConnectionHandler.{rpc}"
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            _, reader, writer = await self._p2p.call_binary_stream_handler(self._peer, name)
        return reader, writer

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *messages: Any) -> str:
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                with suppress(OSError):
                    for message in messages:
                        await P2P.send_protobuf(message, writer)
                _, error = await P2P.receive_protobuf(runtime_pb2.ExpertResponse, reader)
        except TimeoutError:
            return "silence"
        except (asyncio.IncompleteReadError, OSError):
            return "closed"
        return "served" if error is None else f"refused: {error.message}"[:200]

    async def _write(self, content: bytes, more: int = 0) -> str:
        """Write to a stream, and then zeros, as long as somebody reads them; see what comes back."""
        reader, writer = await self._open_stream(INFERENCE)
        try:
            async with asyncio.timeout(_SILENT_FOR_S):
                with suppress(OSError):
                    writer.write(content)
                    for _ in range(more // _MIB):
                        writer.write(bytes(_MIB))
                        await writer.drain()
                    await writer.drain()
                first = await reader.read(1)
        except TimeoutError:
            return "silence"
        except OSError:
            return "closed"
        finally:
            writer.close()
        return {b"": "closed", P2P.ERROR_MARKER: "refused: with a message"}.get(first, "served")


def _nested_dictionary() -> bytes:
    content = b"\xc0"
    for _ in range(400):
        content = msgpack.packb([None, 0.0, msgpack.ExtType(0x50, content)])
    packed: bytes = msgpack.packb(msgpack.ExtType(0x50, content))
    return packed
