"""Calls of one message and one reply: what is left behind when they end otherwise than with a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hivemind.p2p.p2p_daemon_bindings.datastructures import PeerID
from hivemind.proto import p2pd_pb2

if TYPE_CHECKING:
    from uuid import UUID

_MOST_CHARACTERS: Final = 500
"""Of an error that is told to the peer; upstream repeats what the peer has sent."""


async def handle_persistent_request(client: Any, call_id: UUID, request: Any) -> None:
    """In the place of `ControlClient._handle_persistent_request`.

    Upstream's keeps the task of every call that was cancelled or that it does not know for as long as the process
    lives, and answers a call with a reply that is too long not at all.
    """
    try:
        response = await _respond(client, request)
        payload = p2pd_pb2.PersistentConnectionRequest(callId=call_id.bytes, unaryResponse=response)
        if payload.ByteSize() > client.persistent_conn_max_msg_size:
            response = p2pd_pb2.CallUnaryResponse(error=b"response size exceeds message size limit")
            payload = p2pd_pb2.PersistentConnectionRequest(callId=call_id.bytes, unaryResponse=response)
        await client._pending_messages.put(payload)  # noqa: SLF001 -- as upstream does
    finally:
        client._handler_tasks.pop(call_id, None)  # noqa: SLF001 -- see above


async def _respond(client: Any, request: Any) -> Any:
    try:
        handler = client.unary_handlers[request.proto]
        return p2pd_pb2.CallUnaryResponse(response=await handler(request.data, PeerID(request.peer)))
    except Exception as error:  # noqa: BLE001 -- whoever asked is told
        return p2pd_pb2.CallUnaryResponse(error=repr(error).encode()[:_MOST_CHARACTERS])
