"""Asking a running devnet Oracle, in this process or another, and switching its faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from pydantic import TypeAdapter

from tests.devnet.oracle.views import AgentView, Fault, ProofView, RefusalView, RegistrationView, ReportView

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

REQUEST_TIMEOUT_S = 10.0
POLL_S = 0.02

_AGENTS = TypeAdapter(list[AgentView])
_REPORTS = TypeAdapter(list[ReportView])
_REFUSALS = TypeAdapter(list[RefusalView])
_PROOFS = TypeAdapter(list[ProofView])
_REGISTRATIONS = TypeAdapter(list[RegistrationView])
_FAULTS = TypeAdapter(list[Fault])


class OracleControl:
    """The `/devnet/` paths of the Oracle at `url`. Each call is a connection of its own, so a restart is no matter."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def agents(self) -> list[AgentView]:
        """All agents that were heard of."""
        return _AGENTS.validate_json(await self._call("GET", "/devnet/agents"))

    async def agent(self, address: str) -> AgentView:
        """One agent's sums; zeros if it was never heard of."""
        return AgentView.model_validate_json(await self._call("GET", f"/devnet/agents/{address}"))

    async def reports(self, agent: str | None = None) -> list[ReportView]:
        """Accepted reports in the order of acceptance."""
        return _REPORTS.validate_json(await self._call("GET", "/devnet/reports", agent))

    async def refusals(self, agent: str | None = None) -> list[RefusalView]:
        """Refused messages in the order in which they came."""
        return _REFUSALS.validate_json(await self._call("GET", "/devnet/refusals", agent))

    async def proofs(self, agent: str | None = None) -> list[ProofView]:
        """All rows of the proofs table; what was sent twice is there twice."""
        return _PROOFS.validate_json(await self._call("GET", "/devnet/proofs", agent))

    async def registrations(self, agent: str | None = None) -> list[RegistrationView]:
        """Accepted announcements."""
        return _REGISTRATIONS.validate_json(await self._call("GET", "/devnet/registrations", agent))

    async def list_agent(self, agent: str) -> None:
        """Count the agent as registered (an Oracle without a chain only)."""
        await self._call("PUT", f"/devnet/listed/{agent}")

    async def switch_on(self, fault: Fault) -> None:
        """Switch a fault on."""
        await self._call("POST", "/devnet/faults", body=fault.model_dump_json().encode())

    async def faults(self) -> list[Fault]:
        """The faults that are on, with the counts that are left."""
        return _FAULTS.validate_json(await self._call("GET", "/devnet/faults"))

    async def wait_until_faults_are_used_up(self, timeout_s: float) -> None:
        """Wait until every counted fault has hit its last message. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                if all(fault.count is None for fault in await self.faults()):
                    return
                await asyncio.sleep(POLL_S)

    async def clear_faults(self) -> None:
        """Switch all faults off, and let go what hangs."""
        await self._call("DELETE", "/devnet/faults")

    async def wait_for_agent(self, address: str, condition: Callable[[AgentView], bool], timeout_s: float) -> AgentView:
        """Wait until an agent's sums meet a condition and return them. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                view = await self.agent(address)
                if condition(view):
                    return view
                await asyncio.sleep(POLL_S)

    async def wait_until_healthy(self, timeout_s: float) -> None:
        """Wait until the Oracle answers. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    await self._call("GET", "/devnet/faults")
                except (aiohttp.ClientError, ConnectionError):
                    await asyncio.sleep(POLL_S)
                else:
                    return

    async def _call(self, method: str, path: str, agent: str | None = None, body: bytes | None = None) -> bytes:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.request(
                method, self._url + path, params={} if agent is None else {"agent": agent}, data=body, headers=headers
            ) as response,
        ):
            return await response.read()
