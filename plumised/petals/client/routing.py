"""Which servers to go through: petals' own manager of the swarm's servers, asked without blocking the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from petals.client.routing.sequence_manager import MissingBlocksError, RemoteSequenceManager, SequenceManagerState
from petals.data_structures import CHAIN_DELIMITER, UID_DELIMITER

if TYPE_CHECKING:
    from hivemind import DHT
    from hivemind.p2p import P2P, PeerID
    from petals.data_structures import RemoteSpanInfo
    from transformers import PretrainedConfig

_ASKING: Final = 4


class NoRouteError(Exception):
    """Nobody is known to serve some of the blocks."""


class Router:
    """Finds servers for blocks.

    Args:
        config: of the model, petals' class of it; its fields for clients say how to look for servers.
        dht: knows the servers.
        p2p: reaches them.
    """

    def __init__(self, config: PretrainedConfig, dht: DHT, p2p: P2P) -> None:
        self.p2p = p2p
        self.blocks = int(config.num_hidden_layers)
        uids = tuple(f"{config.dht_prefix}{UID_DELIMITER}{index}" for index in range(self.blocks))
        self._manager = RemoteSequenceManager(config, uids, dht=dht, state=SequenceManagerState(p2p=p2p))
        self._threads = ThreadPoolExecutor(_ASKING, "plumised-routing")

    async def spans(self, start: int, end: int, *, cache_tokens: int, timeout_s: float) -> list[RemoteSpanInfo]:
        """Servers for the blocks from `start` to before `end`, in order, by the least latency.

        Args:
            start: first block.
            end: block after the last.
            cache_tokens: for how many tokens each shall have room.
            timeout_s: after so many seconds it counts as none.

        Raises:
            NoRouteError: nobody is known to serve some of them.
        """

        def find() -> list[RemoteSpanInfo]:
            found: list[RemoteSpanInfo] = self._manager.make_sequence(
                start, end, mode="min_latency", cache_tokens_needed=cache_tokens
            )
            # The last one may serve more than was asked for.
            found[-1].end = min(found[-1].end, end)
            return found

        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, find)
        except MissingBlocksError as error:
            self._manager.update(wait=False)
            raise NoRouteError(str(error).partition(". ")[0]) from None
        except TimeoutError:
            raise NoRouteError(f"the swarm's servers are not known after {timeout_s:.0f} s") from None

    def uid(self, start: int, end: int) -> str:
        """The names of blocks as requests have them."""
        return str(CHAIN_DELIMITER.join(self._manager.block_uids[start:end]))

    def succeeded(self, peer: PeerID) -> None:
        """A server has answered."""
        self._manager.on_request_success(peer)

    def failed(self, peer: PeerID) -> None:
        """A server has not; others are preferred for a while, and the swarm is asked again who there is."""
        self._manager.on_request_failure(peer)
        self._manager.update(wait=False)

    def close(self) -> None:
        """End its threads."""
        self._manager.shutdown()
        self._threads.shutdown(wait=False, cancel_futures=True)
