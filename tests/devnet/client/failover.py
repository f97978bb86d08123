"""Lets a generation survive the failure of a server. The Petals client 2.2.0.post1 loses it.

When a server fails within a session, upstream gives the failed session's history to the one that replaces it, but not
its position: the replacement then refuses its first step ("Broken input cache"). The history may also hold the inputs
of the step that failed, and the replacement's output, which covers the whole prefix, would be fed to the servers behind
it as new tokens. `apply` mends the three.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from petals.client.inference_session import InferenceSession, _ServerInferenceSession

_new_tokens: ContextVar[int] = ContextVar("_new_tokens")


def apply() -> None:
    """Patch the client's sessions. Once per process."""
    session_step = InferenceSession.step
    server_step = _ServerInferenceSession.step
    update_sequence = InferenceSession._update_sequence

    def step(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        token = _new_tokens.set(inputs.shape[1])
        try:
            return session_step(self, inputs, *args, **kwargs)
        finally:
            _new_tokens.reset(token)

    def step_on_server(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self._position > 0:
            inputs = inputs[:, -_new_tokens.get() :]
        return server_step(self, inputs, *args, **kwargs)

    def replace_failed(self: Any, server_idx: int, *args: Any, **kwargs: Any) -> Any:
        result = update_sequence(self, server_idx, *args, **kwargs)
        replacement = self._server_sessions[server_idx]
        if replacement.history is not None:
            replacement.history = replacement.history[:, : self._position] if self._position else None
            replacement._position = self._position
        return result

    InferenceSession.step = step
    InferenceSession._update_sequence = replace_failed
    _ServerInferenceSession.step = step_on_server
