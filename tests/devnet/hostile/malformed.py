"""Requests that no client makes: each is a well-formed one with one thing wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgpack
import torch
from hivemind import MSGPackSerializer, serialize_torch_tensor
from hivemind.proto import runtime_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSES: Final = ("rpc_forward", "rpc_backward", "rpc_forward_stream", "rpc_backward_stream")
INFERENCE: Final = "rpc_inference"


@dataclass(frozen=True)
class Parts:
    """What a request is made of.

    Attributes:
        metadata: in msgpack.
    """

    uid: str
    tensors: tuple[Any, ...]
    metadata: bytes

    def message(self) -> Any:
        return runtime_pb2.ExpertRequest(uid=self.uid, tensors=self.tensors, metadata=self.metadata)


@dataclass(frozen=True)
class Target:
    """What is asked for.

    Attributes:
        prefix: of the names of the blocks.
        blocks: from 0.
        hidden: size of the hidden states.
    """

    prefix: str
    blocks: int
    hidden: int

    @property
    def uids(self) -> list[str]:
        return [f"{self.prefix}.{block}" for block in range(self.blocks)]

    def states(self, batch: int = 1, length: int = 3) -> Any:
        return serialize_torch_tensor(torch.zeros(batch, length, self.hidden))

    def well_formed(self, rpc: str, batch: int = 1, length: int = 3, **metadata: Any) -> Parts:
        """One that is served."""
        states, nothing = self.states(batch, length), serialize_torch_tensor(torch.empty(0))
        tensors = [states, nothing]
        if rpc == INFERENCE:
            tensors.append(serialize_torch_tensor(torch.empty(0, dtype=torch.int64)))
            metadata = {"max_length": 16, **metadata}
        elif "backward" in rpc:
            tensors.insert(1, states)
        return Parts(" ".join(self.uids), tuple(tensors), MSGPackSerializer.dumps(metadata))


def nested(levels: int) -> bytes:
    """Extensions of msgpack, one in the other."""
    content = b"\xc0"
    for _ in range(levels):
        content = msgpack.packb(msgpack.ExtType(0x40, b"\x91" + content))
    return content


def tensor(size: list[int], dtype: str, buffer: bytes, compression: int = 0) -> Any:
    return runtime_pb2.Tensor(size=size, dtype=dtype, buffer=buffer, compression=compression)


def malformed(target: Target, rpc: str) -> Iterator[tuple[str, Parts]]:
    """Each by the name of what is wrong with it."""
    good = target.well_formed(rpc)
    for name, uid in _blocks(target):
        yield f"blocks: {name}", replace(good, uid=uid)
    for name, metadata in _metadata(target.well_formed(rpc)):
        yield f"metadata: {name}", replace(good, metadata=metadata)
    for name, states in _states(target):
        yield f"states: {name}", replace(good, tensors=(states, *good.tensors[1:]))
    for name, prompts in _prompts(target):
        place = 2 if "backward" in rpc else 1
        yield f"prompts: {name}", replace(good, tensors=(*good.tensors[:place], prompts, *good.tensors[place + 1 :]))
    yield "tensors: a thousand", replace(good, tensors=(*good.tensors, *[tensor([0], "float32", b"")] * 1000))
    if rpc == INFERENCE:
        yield "tensors: one", replace(good, tensors=good.tensors[:1])
        for name, order in _orders():
            yield f"order: {name}", replace(good, tensors=(*good.tensors[:2], order))
        for name, metadata in _sessions():
            yield f"session: {name}", replace(good, metadata=metadata)
    else:
        yield "tensors: none", replace(good, tensors=())
        yield "states: no tokens", replace(good, tensors=(target.states(1, 0), *good.tensors[1:]))
    if "backward" in rpc:
        yield "gradients: none", replace(good, tensors=good.tensors[:1])
        yield "gradients: of another length", replace(good, tensors=(good.tensors[0], target.states(1, 2)))


def _blocks(target: Target) -> Iterator[tuple[str, str]]:
    uids = target.uids
    yield "none", ""
    yield "unknown", "who.0"
    yield "beyond the span", f"{target.prefix}.{target.blocks}"
    yield "in the wrong order", " ".join(reversed(uids))
    yield "the same twice", f"{uids[0]} {uids[0]}"
    yield "the same a hundred thousand times", " ".join([uids[0]] * 100_000)
    yield "with a gap", f"{uids[0]} {uids[2]}"
    yield "with empty names", f"{uids[0]}  {uids[1]}"
    yield "a megabyte of letters", "x" * 2**20


def _metadata(good: Parts) -> Iterator[tuple[str, bytes]]:
    known = MSGPackSerializer.loads(good.metadata)
    yield "no msgpack", b"\xc1"
    yield "cut off", good.metadata + b"\x92\x01"
    yield "a list", MSGPackSerializer.dumps([1, 2])
    yield "of a type that msgpack does not know", msgpack.packb(msgpack.ExtType(0x50, b"\xc1"))
    yield "400 levels of extensions", nested(400)
    yield "30000 levels of lists", b"\x91" * 30_000 + b"\xc0"
    yield "a megabyte", MSGPackSerializer.dumps({"x": "x" * 2**20})
    wrong: dict[str, list[Any]] = {
        "points": [float("nan"), -1, "1", 2**63],
        "active_adapter": ["none such", ["a"]],
        "output_compression": [[99], "x", [0] * 1000],
        "args_structure": [
            1,
            [[b"__T9"], {}],
            [[b"__T0", b"__T-1"], {}],
            [[b"__T0"], {"x": b"__T0"}],
            [[b"__T0"] * 10_000, {}],
            [["text"], {}],
        ],
    }
    for key, values in wrong.items():
        for number, value in enumerate(values):
            yield f"{key}, {number}", MSGPackSerializer.dumps({**known, key: value})


def _sessions() -> Iterator[tuple[str, bytes]]:
    lengths: list[Any] = [None, -1, 10**9, 2**62, "16", 1.5, True]
    for length in lengths:
        yield f"max_length {length!r}", MSGPackSerializer.dumps({"max_length": length})
    others: list[dict[str, Any]] = [
        {"session_id": ["a"]},
        {"session_id": "x" * 1000},
        {"step_id": {}},
        {"alloc_timeout": float("nan")},
        {"alloc_timeout": "1"},
        {"next_servers": [[1]]},
        {"next_servers": [["a", "b", 0, 10**9]]},
    ]
    for other in others:
        yield str(other)[:40], MSGPackSerializer.dumps({"max_length": 16, **other})


def _states(target: Target) -> Iterator[tuple[str, Any]]:
    hidden, values = target.hidden, 3 * target.hidden
    size = [1, 3, hidden]
    yield "no dimension", tensor([], "float32", bytes(4))
    yield "two dimensions", tensor([3, hidden], "float32", bytes(4 * values))
    yield "of another size", tensor([1, 3, hidden + 1], "float32", bytes(12 * (hidden + 1)))
    yield "an absurd batch", tensor([2**32 - 1, 1, hidden], "float32", b"")
    yield "an absurd length", tensor([1, 2**32 - 1, hidden], "float32", b"")
    yield "a batch of none", tensor([0, 3, hidden], "float32", b"")
    yield "more tokens than fit", tensor([100_000, 1, hidden], "float32", b"")
    yield "fewer bytes than they say", tensor(size, "float32", bytes(4 * values - 1))
    yield "more bytes than they say", tensor(size, "float32", bytes(4 * values + 1))
    yield "integers", tensor(size, "int64", bytes(8 * values))
    for dtype in ("", "object", "S1000000", "U1000000", "complex128", "f4,f4", "load", "float32\0", "x" * 10_000):
        for compression in (0, 1, 2, 3, 5):
            yield f"of type {dtype[:12]!r}, {compression}", tensor(size, dtype, bytes(2 * values), compression)
    yield "of an unknown compression", tensor(size, "float32", bytes(4 * values), 77)
    counts = b"".join(count.to_bytes(8, "little", signed=True) for count in (0, 0))
    yield "blocks without scales", tensor(size, "float32", counts + bytes(values), 5)
    counts = b"".join(count.to_bytes(8, "little", signed=True) for count in (1, 1))
    yield "blocks with a short table", tensor(size, "float32", counts + bytes(8 + values), 5)
    for count in (-1, 0, 2**62):
        header = count.to_bytes(8, "little", signed=True)
        yield f"a table of {count} entries", tensor(size, "float32", header + bytes(1024 + values), 3)


def _prompts(target: Target) -> Iterator[tuple[str, Any]]:
    blocks, hidden = target.blocks, target.hidden

    def prompts(*size: int) -> Any:
        return serialize_torch_tensor(torch.zeros(*size))

    yield "of one block too few", prompts(blocks - 1, 1, 2, hidden)
    yield "longer than the states", prompts(blocks, 1, 4, hidden)
    yield "of another batch", prompts(blocks, 2, 2, hidden)
    yield "of no values, a million times", tensor([2**20, 0, 1], "float32", b"")
    yield "integers", serialize_torch_tensor(torch.zeros(blocks, 1, 2, hidden, dtype=torch.int64))


def _orders() -> Iterator[tuple[str, Any]]:
    yield "fractions", serialize_torch_tensor(torch.zeros(1))
    yield "beyond the batch", serialize_torch_tensor(torch.tensor([10**6]))
    yield "negative", serialize_torch_tensor(torch.tensor([-1]))
    yield "too many", serialize_torch_tensor(torch.tensor([0, 0]))
    yield "two dimensions", serialize_torch_tensor(torch.tensor([[0]]))
