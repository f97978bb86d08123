"""The requests of an inference session, as petals' servers take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hivemind.compression import deserialize_torch_tensor, serialize_torch_tensor
from hivemind.proto import runtime_pb2
from hivemind.utils.serializer import MSGPackSerializer
from petals.utils.misc import DUMMY, DUMMY_INT64
from petals.utils.packaging import pack_args_kwargs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

# Neither prompts nor the indices of beams, in every request.
_REST: Final = (serialize_torch_tensor(DUMMY), serialize_torch_tensor(DUMMY_INT64))
_STRUCTURE: Final = pack_args_kwargs(DUMMY.clone(), DUMMY, DUMMY_INT64)[1]


class UnusableAnswerError(Exception):
    """A server's answer does not hold what was asked for."""


def step_request(
    uid: str,
    states: torch.Tensor,
    *,
    session_id: str,
    step_id: str,
    max_length: int | None = None,
    next_servers: Sequence[tuple[str, str, int, int]] = (),
) -> runtime_pb2.ExpertRequest:
    """One step.

    Args:
        uid: names of the blocks, with spaces between them.
        states: hidden states [1, tokens, hidden size], float32.
        session_id: of the session on this server.
        step_id: a server computes each step once, however often it is asked.
        max_length: tokens to reserve the cache for; of a session's first step.
        next_servers: to whom the server passes the result on, one after the other: peer, session, first block and the
            block after the last.
    """
    metadata: dict[str, Any] = {"session_id": session_id, "step_id": step_id, "args_structure": _STRUCTURE}
    if max_length is not None:
        metadata["max_length"] = max_length
    if next_servers:
        metadata["next_servers"] = list(next_servers)
    return runtime_pb2.ExpertRequest(
        uid=uid, tensors=[serialize_torch_tensor(states), *_REST], metadata=MSGPackSerializer.dumps(metadata)
    )


def result(response: runtime_pb2.ExpertResponse, like: torch.Tensor) -> torch.Tensor:
    """The hidden states of an answer, float32.

    Args:
        response: to a step.
        like: what was sent, which has the same shape.

    Raises:
        UnusableAnswerError: the answer has others, or none.
    """
    if not response.tensors:
        raise UnusableAnswerError("no tensors")
    try:
        states: torch.Tensor = deserialize_torch_tensor(response.tensors[0])
    except Exception as error:
        # hivemind says nowhere what it raises for which nonsense.
        raise UnusableAnswerError(str(error)) from error
    if states.shape != like.shape or not states.is_floating_point():
        raise UnusableAnswerError(f"{states.dtype} of shape {tuple(states.shape)} instead of {tuple(like.shape)}")
    return states.float()
