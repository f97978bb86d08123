"""What the Oracle knows of the chain: whether a wallet is registered, and how to get it registered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RPC_TIMEOUT_S = 5.0
SPONSOR_TIMEOUT_S = 30.0
POLL_S = 0.1


class ChainUnreachable(Exception):  # noqa: N818 - a state of the world
    """The RPC did not answer, or not with a result."""


class Registry(Protocol):
    """Where registrations are looked up."""

    async def is_registered(self, agent: str) -> bool:
        """Whether the chain knows the agent (lower-case address). Raises ChainUnreachable."""
        ...

    async def sponsor(self, agent: str, name: str) -> None:
        """Register the agent at the Oracle's cost and wait until it is done. Raises ChainUnreachable."""
        ...


class ListedRegistry:
    """A registry without a chain: a set of addresses."""

    def __init__(self, agents: Iterable[str] = ()) -> None:
        self.agents = {agent.lower() for agent in agents}

    async def is_registered(self, agent: str) -> bool:
        """Whether the agent is in the set."""
        return agent in self.agents

    async def sponsor(self, agent: str, name: str) -> None:  # noqa: ARG002 - a set has no names
        """Put the agent into the set."""
        self.agents.add(agent)


class ChainRegistry:
    """The chain itself, over JSON-RPC; registrations go through the devnet chain's admin port, if there is one."""

    def __init__(self, session: aiohttp.ClientSession, url: str, sponsor_url: str | None) -> None:
        self._session = session
        self._url = url
        self._sponsor_url = sponsor_url

    async def is_registered(self, agent: str) -> bool:
        """Ask `agent_isAgentAccount`."""
        return await self._call("agent_isAgentAccount", agent, "latest") is True

    async def sponsor(self, agent: str, name: str) -> None:
        """Have the devnet chain register the agent, and wait until a block has it."""
        if self._sponsor_url is None:
            raise ChainUnreachable("this Oracle has no means to register an agent")
        await self._post(f"{self._sponsor_url}/devnet/register", {"agent": agent, "name": name})
        try:
            async with asyncio.timeout(SPONSOR_TIMEOUT_S):
                while True:
                    if await self.is_registered(agent):
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise ChainUnreachable("the registration is not mined") from error

    async def _post(self, url: str, body: Mapping[str, object]) -> object:
        timeout = aiohttp.ClientTimeout(total=RPC_TIMEOUT_S)
        try:
            async with self._session.post(url, json=body, timeout=timeout, raise_for_status=True) as response:
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ChainUnreachable(f"{url}: {error}") from error

    async def _call(self, method: str, *parameters: str) -> object:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        answer = await self._post(self._url, request)
        if not isinstance(answer, dict) or "result" not in answer:
            raise ChainUnreachable(f"{method}: {answer}")
        return answer["result"]
