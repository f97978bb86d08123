"""The smallest whole: chain, Oracle, bootstrap peer, and one node that serves a small random model."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.devnet.bootstrap import running_bootstrap
from tests.devnet.chain import DevChain
from tests.devnet.client import LanguageModelClient
from tests.devnet.model import make_bloom
from tests.devnet.node import DevNode, key
from tests.devnet.oracle import DevOracle, OracleConfig, OracleControl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

_BALANCE_WEI = 10**18


@dataclass(frozen=True)
class OneNode:
    """What runs.

    Attributes:
        node: serves.
        agent: address of its wallet.
        model: the checkpoint that it serves.
        peers: lead into its swarm, also while it is down.
        oracle: asks the Oracle.
        place: directory that has the files of all of them.
    """

    node: DevNode
    agent: str
    model: Path
    peers: list[str]
    oracle: OracleControl
    place: Path

    def client(self) -> LanguageModelClient:
        """A client of the swarm, which is not started."""
        return LanguageModelClient.swarm(self.model, self.node.prefix, self.peers, log=self.place / "client.log")


@contextlib.asynccontextmanager
async def one_node(
    place: Path, blocks: int, extra: Mapping[str, Mapping[str, object]] | None = None
) -> AsyncIterator[OneNode]:
    """All of it, serving, until the end of the block.

    Args:
        place: directory for the files, whose path must be short.
        blocks: of the BLOOM that is made; the node serves them all.
        extra: tables of node.toml that are merged over the rest.
    """
    model = make_bloom(place / "model", blocks=blocks)
    async with (
        running_bootstrap(place) as peers,
        DevChain() as chain,
        DevOracle(OracleConfig(rpc_url=chain.url)) as oracle,
    ):
        node = DevNode(
            place / "node",
            model,
            f"0:{blocks}",
            key(0xAA),
            oracle.url,
            chain.url,
            initial_peers=peers,
            extra=extra or {},
        )
        agent = node.prepare()
        await chain.admin.fund(agent, _BALANCE_WEI)
        async with node:
            await node.wait_for("serving")
            yield OneNode(node, agent, model, peers, OracleControl(oracle.url), place)
