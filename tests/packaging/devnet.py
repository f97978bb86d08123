"""The devnet on this machine's address in the hosts' network."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.devnet.oracle import OracleControl
from tests.devnet.programs import Devnet, running_devnet
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from tests.hosts.network import Network

_BLOCK_TIME_S = 1.0


@dataclass(frozen=True)
class HostsDevnet:
    """A chain and an Oracle that hosts reach."""

    programs: Devnet
    _portal: BlockingPortal

    @classmethod
    @contextlib.contextmanager
    def running(cls, network: Network, portal: BlockingPortal, directory: Path) -> Iterator[HostsDevnet]:
        """Both run until the end of the block, with their files in `directory`."""
        running = running_devnet(directory, block_time_s=_BLOCK_TIME_S, funds=[], host=str(network.gateway))
        with portal.wrap_async_context_manager(running) as programs:
            yield cls(programs, portal)

    def booked(self, agent: str) -> int:
        """Tokens that the Oracle booked for an agent."""
        return self._portal.call(OracleControl(self.programs.oracle_url).agent, agent).booked_tokens

    def wait_booked(self, agent: str, tokens: int, timeout_s: float = 60.0) -> None:
        """Wait until exactly so many tokens are booked.

        Raises:
            TimeoutError: it is another number.
        """
        wait_until(f"{tokens} tokens of {agent} are booked", lambda: self.booked(agent) == tokens or None, timeout_s)
