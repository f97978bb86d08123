"""All of node.toml: its tables, and the defaults of one that follow from another.

docs/configuration.md and etc/plumise/node.toml are made from the tables by `plumised.config.reference`. A key whose
default is None may be left unset; its first example stands in the shipped file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, model_validator

from plumised.config import values
from plumised.config.problems import UnfitError
from plumised.config.sections.chain import MAINNET, MAINNET_REGISTRY, ChainSettings
from plumised.config.sections.engine import EngineSettings
from plumised.config.sections.log import LogSettings
from plumised.config.sections.metrics import MetricsSettings
from plumised.config.sections.node import NodeSettings
from plumised.config.sections.oracle import OracleSettings
from plumised.config.sections.rewards import RewardsSettings
from plumised.config.sections.swarm import SwarmSettings
from plumised.config.sections.wallet import WalletSettings

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.config.sections.section import Section


class Settings(BaseModel, frozen=True, extra="forbid", strict=True):
    """All of node.toml. Values are in their canonical form; every path is absolute."""

    node: NodeSettings
    engine: EngineSettings = Field(default_factory=lambda: EngineSettings.model_validate({}))
    swarm: SwarmSettings = Field(default_factory=lambda: SwarmSettings.model_validate({}))
    oracle: OracleSettings = Field(default_factory=lambda: OracleSettings.model_validate({}))
    chain: ChainSettings = Field(default_factory=lambda: ChainSettings.model_validate({}))
    wallet: WalletSettings = Field(default_factory=lambda: WalletSettings.model_validate({}))
    rewards: RewardsSettings = Field(default_factory=lambda: RewardsSettings.model_validate({}))
    metrics: MetricsSettings = Field(default_factory=lambda: MetricsSettings.model_validate({}))
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}))

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: object) -> object:
        return with_derived(data) if isinstance(data, dict) else data


SECTIONS: dict[str, type[Section]] = {
    "node": NodeSettings,
    "engine": EngineSettings,
    "swarm": SwarmSettings,
    "oracle": OracleSettings,
    "chain": ChainSettings,
    "wallet": WalletSettings,
    "rewards": RewardsSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
}
"""The tables of node.toml, in its order."""

_IN_DIRECTORY = (
    ("node", "control_socket", "runtime_dir", "control.sock"),
    ("swarm", "identity_file", "state_dir", "engine/identity.key"),
    ("wallet", "keystore", "state_dir", "wallet/keystore.json"),
)


def with_derived(tables: dict[str, object]) -> dict[str, object]:
    """The tables with those defaults filled in that follow from other keys; what is malformed stays as it is."""
    filled = dict(tables)
    node, chain = filled.get("node"), filled.get("chain", {})
    for section, key, directory_key, name in _IN_DIRECTORY:
        directory = _directory(node.get(directory_key)) if isinstance(node, dict) else None
        table = filled.get(section, {})
        if directory is not None and isinstance(table, dict) and key not in table:
            filled[section] = {**table, key: directory / name}
    if isinstance(chain, dict) and chain.get("chain_id", MAINNET) == MAINNET and "agent_registry" not in chain:
        filled["chain"] = {**chain, "agent_registry": MAINNET_REGISTRY}
    return filled


def _directory(value: object) -> Path | None:
    try:
        return values.absolute_path(value)
    except UnfitError:
        return None
