"""node.toml -> frozen, typed settings. Every mistake is told with its file, line, key and remedy."""

from plumised.config.changes import Changes, changes
from plumised.config.effects import EFFECTS, Effect
from plumised.config.loading import load
from plumised.config.origin import Origin
from plumised.config.problems import ConfigError, ConfigProblem
from plumised.config.sections.chain import ChainSettings
from plumised.config.sections.engine import EngineSettings
from plumised.config.sections.log import LogSettings
from plumised.config.sections.metrics import MetricsSettings
from plumised.config.sections.node import NodeSettings
from plumised.config.sections.oracle import OracleSettings
from plumised.config.sections.rewards import RewardsSettings
from plumised.config.sections.swarm import SwarmSettings
from plumised.config.sections.wallet import WalletSettings
from plumised.config.settings import Settings
from plumised.config.urls import Listen
from plumised.config.values import Span

__all__ = [
    "EFFECTS",
    "ChainSettings",
    "Changes",
    "ConfigError",
    "ConfigProblem",
    "Effect",
    "EngineSettings",
    "Listen",
    "LogSettings",
    "MetricsSettings",
    "NodeSettings",
    "OracleSettings",
    "Origin",
    "RewardsSettings",
    "Settings",
    "Span",
    "SwarmSettings",
    "WalletSettings",
    "changes",
    "load",
]
