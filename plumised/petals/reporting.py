"""Tells the daemon where the engine stands: one state, changed in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plumised.ipc.messages import Phase, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class StateReporter:
    """Keeps the state of the main process and publishes every change.

    Args:
        publish: takes each state.
    """

    def __init__(self, publish: Callable[[State], None]) -> None:
        self._publish = publish
        self._state = State(Phase.IMPORTING)
        publish(self._state)

    @property
    def phase(self) -> Phase:
        """The phase that was published last."""
        return self._state.phase

    def joining(self, total_blocks: int) -> None:
        """The model is known, the swarm is being joined."""
        self._change(replace(self._state, phase=Phase.JOINING, total_blocks=total_blocks))

    def joined(self, peer_id: str, addresses: Sequence[str], *, dtype: str, quantization: str, device: str) -> None:
        """The swarm knows this peer."""
        self._change(
            replace(
                self._state,
                peer_id=peer_id,
                addresses=tuple(addresses),
                dtype=dtype,
                quantization=quantization,
                device=device,
            )
        )

    def loading(self, start: int, end: int) -> None:
        """The blocks of the span are being loaded, none is there yet."""
        self._change(replace(self._state, phase=Phase.LOADING, block=0, blocks=end - start, start=start, end=end))

    def block_loaded(self) -> None:
        """One more block is there."""
        if self._state.phase is Phase.LOADING and self._state.block is not None:
            self._change(replace(self._state, block=self._state.block + 1))

    def online(self, path: str) -> None:
        """Requests are served; `path` computes short steps."""
        self._change(replace(self._state, phase=Phase.ONLINE, block=None, blocks=None, path=path))

    def not_serving(self) -> None:
        """The blocks are taken down. Unless the engine is being stopped, others will be loaded."""
        if self._state.phase is Phase.ONLINE:
            self._change(replace(self._state, phase=Phase.JOINING))

    def draining(self) -> None:
        """Open sessions are served, other peers are sent elsewhere."""
        self._change(replace(self._state, phase=Phase.DRAINING))

    def stopped(self) -> None:
        """Nothing is served any more."""
        self._change(replace(self._state, phase=Phase.STOPPED))

    def _change(self, state: State) -> None:
        self._state = state
        self._publish(state)
