"""One devnet node: the chain, when its blocks come, the faults that are on, and what was asked of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Final

from tests.devnet.chain.faults import Board
from tests.devnet.chain.model import Mining, MiningMode, SeenCall

if TYPE_CHECKING:
    from tests.devnet.chain.blockchain import Blockchain

REMEMBERED_CALLS: Final = 20_000


class Node:
    """Owns a chain; everything of it runs in one event loop."""

    def __init__(self, chain: Blockchain, mining: Mining) -> None:
        self.chain = chain
        self.board = Board()
        self.calls: deque[SeenCall] = deque(maxlen=REMEMBERED_CALLS)
        self.version = 0
        self._mining = mining
        self._changed = asyncio.Event()
        self._mining_changed = asyncio.Event()

    @property
    def mining(self) -> Mining:
        return self._mining

    def set_mining(self, mining: Mining) -> None:
        self._mining = mining
        self._mining_changed.set()
        self.settle()

    def settle(self) -> None:
        """Do what follows from a change: mine what can be mined if that is instant, and tell who waits."""
        if self._mining.mode is MiningMode.INSTANT:
            while self.chain.executable():
                self.chain.mine()
        self.touch()

    def touch(self) -> None:
        """Tell those who wait for a change that there was one."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, since: int, timeout_s: float) -> int:
        """Return the version once it is above `since`, or after `timeout_s` as it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.version <= since:
                    await self._changed.wait()
        return self.version

    async def keep_time(self) -> None:
        """Mine on the interval, until cancelled."""
        while True:
            self._mining_changed.clear()
            timed = self._mining.mode is MiningMode.INTERVAL
            try:
                async with asyncio.timeout(self._mining.interval_s if timed else None):
                    await self._mining_changed.wait()
            except TimeoutError:
                self.chain.mine()
                self.touch()
