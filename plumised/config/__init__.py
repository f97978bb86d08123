"""node.toml -> frozen, typed settings. Every mistake is told with its file, line, key and remedy."""

from plumised.config.loading import load
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
    "ChainSettings",
    "ConfigError",
    "ConfigProblem",
    "EngineSettings",
    "Listen",
    "LogSettings",
    "MetricsSettings",
    "NodeSettings",
    "OracleSettings",
    "RewardsSettings",
    "Settings",
    "Span",
    "SwarmSettings",
    "WalletSettings",
    "load",
]
