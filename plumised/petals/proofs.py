"""Digests of the hidden states that pass through a handler, per request, kept with every counted step.

What is hashed: keccak-256 over the hidden states of the request in the order of its steps, each as the receiver
deserializes it from the message, converted to the dtype of the served blocks, row-major, little-endian. Batches,
lengths and whatever else a message holds (prompts, beam indices, their gradients) are not part of it. The input of a
backward pass is its hidden states followed by its gradients; its output is the gradients with respect to the inputs.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from Crypto.Hash import keccak
from hivemind.compression.serialization import deserialize_torch_tensor
from hivemind.proto import runtime_pb2
from petals.utils.packaging import unpack_args_kwargs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from plumised.ipc.proofs import ProofWriter, RequestSlot

logger: Final = logging.getLogger(__name__)

_INLINE_BYTES: Final = 64 * 1024
"""Up to this size hashing takes less time than handing it to another thread and back may cost the event loop."""

_RETRY_S: Final = 1.0

Passing: TypeAlias = "runtime_pb2.Tensor | torch.Tensor"
"""Hidden states as a message has them, or deserialized."""


def model_digest(name: str) -> bytes:
    """keccak-256 of the model's name as the job has it, UTF-8."""
    digest: bytes = keccak.new(digest_bits=256, data=name.encode()).digest()
    return digest


def little_endian_bytes(hidden: Passing, dtype: torch.dtype) -> memoryview:
    """The bytes that are hashed, see this module's description.

    Raises:
        Exception: whatever hivemind raises for a message that it cannot deserialize.
    """
    if isinstance(hidden, runtime_pb2.Tensor):
        if hidden.compression == runtime_pb2.NONE and hidden.dtype == _PLAIN.get(dtype):
            # hivemind sends these as they are in memory.
            return memoryview(hidden.buffer)
        hidden = deserialize_torch_tensor(hidden)
    contiguous = hidden.detach().to(device="cpu", dtype=dtype).contiguous()
    octets: Any = contiguous.view(-1).view(torch.uint8).numpy()
    return memoryview(octets)


_PLAIN: Final = {torch.float32: "float32", torch.float16: "float16"} if sys.byteorder == "little" else {}


def hidden_states(tensors: Sequence[Any], structure: Any, count: int) -> list[Any]:
    """The first `count` arguments of a request: its hidden states, and the gradients of a backward pass.

    Args:
        tensors: of the request, in the order of its message.
        structure: `args_structure` of its metadata: how the client has packed its arguments; None if it has not.
        count: how many.
    """
    if structure is not None:
        tensors, _ = unpack_args_kwargs(list(tensors), structure)
    return list(tensors[:count])


class RequestDigest:
    """The digests of one request. Takes an input, then its output, step after step.

    Args:
        prover: of this handler.

    Attributes:
        inputs: the running hash of what came.
        outputs: the running hash of what left.
    """

    def __init__(self, prover: Prover) -> None:
        self._prover = prover
        self.inputs = keccak.new(digest_bits=256, update_after_digest=True)
        self.outputs = keccak.new(digest_bits=256, update_after_digest=True)
        self._tokens = 0
        self._pending: Future[None] | None = None
        self._slot: RequestSlot | None = None
        self._lost = False

    def take_input(self, hidden: Sequence[Passing]) -> None:
        """Hash the input of a step. A large one is hashed in another thread, while the step is computed."""
        self._pending = self._prover.hash(self.inputs, hidden)

    async def input_taken(self) -> None:
        """Wait until the input may be changed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            await asyncio.wrap_future(pending)

    async def take_output(self, hidden: Sequence[Passing]) -> None:
        """Hash the output of a step."""
        await self.input_taken()
        pending = self._prover.hash(self.outputs, hidden)
        if pending is not None:
            await asyncio.wrap_future(pending)

    def keep(self, counted: int, tokens: int) -> None:
        """Make the request durable up to a step that is counted next.

        Args:
            counted: what the tally will have counted with it.
            tokens: of this step.
        """
        self._tokens += tokens
        if self._slot is None and not self._lost:
            self._slot = self._prover.slot()
            # A proof that lacks the first steps would be none.
            self._lost = self._slot is None
        if self._slot is not None:
            self._slot.write(counted, self._tokens, self.inputs.digest(), self.outputs.digest())

    def end(self) -> None:
        """No step follows."""
        if self._slot is not None:
            self._slot.end()


class NoDigest:
    """In the place of a `RequestDigest` where no proofs are wanted: does nothing."""

    def take_input(self, hidden: Sequence[Passing]) -> None:
        """Ignore it."""

    async def input_taken(self) -> None:
        """Return at once."""

    async def take_output(self, hidden: Sequence[Passing]) -> None:
        """Ignore it."""

    def keep(self, counted: int, tokens: int) -> None:
        """Keep nothing."""

    def end(self) -> None:
        """There is nothing to end."""


Digest = RequestDigest | NoDigest


class Prover:
    """Makes the digests of one handler process. Made after the fork, used in its event loop's thread.

    Args:
        writer: keeps them.
        dtype: of the served blocks.
        clock: monotonic seconds.
    """

    def __init__(self, writer: ProofWriter, dtype: torch.dtype, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._dtype = dtype
        self._clock = clock
        # One thread: what is hashed for a request stays in order.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="digests")
        self._next_try = float("-inf")
        self._without = 0

    def begin(self) -> RequestDigest:
        """The digests of one more request."""
        return RequestDigest(self)

    def hash(self, state: Any, hidden: Sequence[Passing]) -> Future[None] | None:
        """Update a hash: at once with little, in the thread of this handler with much."""
        if sum(map(_size, hidden)) <= _INLINE_BYTES:
            self._update(state, hidden)
            return None
        return self._thread.submit(self._update, state, hidden)

    def slot(self) -> RequestSlot | None:
        """Where to keep one more request; None while the disk or the daemon takes none, which is told."""
        if self._clock() >= self._next_try:
            try:
                slot = self._writer.open()
            except OSError as error:
                if not self._without:
                    logger.warning("requests are served without proofs at the moment: %s", error)
                self._next_try = self._clock() + _RETRY_S
            else:
                if self._without:
                    logger.warning("proofs are kept again; %d requests have none", self._without)
                self._without = 0
                return slot
        self._without += 1
        return None

    def close(self) -> None:
        """End the thread; what it has begun is given up."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _update(self, state: Any, hidden: Sequence[Passing]) -> None:
        for tensor in hidden:
            state.update(little_endian_bytes(tensor, self._dtype))


def _size(hidden: Passing) -> int:
    """Bytes of it in memory, more or less. Asking a message for its buffer would copy it."""
    return math.prod(hidden.size) * 4 if isinstance(hidden, runtime_pb2.Tensor) else int(hidden.nbytes)
