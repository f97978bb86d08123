"""node.toml -> frozen, typed settings. Every mistake is told with its file, line, key and remedy."""

from plumised.config.changes import Changes, changes
from plumised.config.effects import EFFECTS, Effect
from plumised.config.loading import load
from plumised.config.origin import Origin
from plumised.config.problems import ConfigError, ConfigProblem
from plumised.config.settings import (
    ChainSettings,
    EngineSettings,
    LogSettings,
    MetricsSettings,
    NodeSettings,
    OracleSettings,
    RewardsSettings,
    Settings,
    SwarmSettings,
    WalletSettings,
)
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
