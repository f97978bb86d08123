"""The daemon's side of the engine: starts, watches, ends and counts it. docs/engine-protocol.md has the protocol."""

from plumised.engine.causes import Cause
from plumised.engine.engine import Engine, EnginePlaces
from plumised.engine.errors import LaunchError, PlaceError, RemainsError, SocketError, SpawnError
from plumised.engine.health import Ailment, Busy, Healthy, Stuck, Verdict
from plumised.engine.launch import Launch
from plumised.engine.policy import EnginePolicy
from plumised.engine.snapshot import EngineSnapshot, StateName
from plumised.engine.usage import UsageSink

__all__ = [
    "Ailment",
    "Busy",
    "Cause",
    "Engine",
    "EnginePlaces",
    "EnginePolicy",
    "EngineSnapshot",
    "Healthy",
    "Launch",
    "LaunchError",
    "PlaceError",
    "RemainsError",
    "SocketError",
    "SpawnError",
    "StateName",
    "Stuck",
    "UsageSink",
    "Verdict",
]
