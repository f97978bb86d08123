"""When a changed key of node.toml takes effect. The documentation and `plumised reload` both go by this table."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Effect(StrEnum):
    """What has to happen before a changed key counts."""

    RELOAD = "reload"
    """`plumised reload` applies it at once."""
    ENGINE = "engine restart"
    """`plumised reload` applies it, and drains and restarts the engine for it."""
    DAEMON = "daemon restart"
    """`plumised reload` refuses it; the daemon must be started anew."""


EFFECTS: Final[Mapping[str, Mapping[str, Effect]]] = {
    "node": {
        "name": Effect.RELOAD,
        "state_dir": Effect.DAEMON,
        "runtime_dir": Effect.DAEMON,
        "cache_dir": Effect.ENGINE,
        "control_socket": Effect.DAEMON,
    },
    "engine": {
        "python": Effect.ENGINE,
        "model": Effect.ENGINE,
        "revision": Effect.ENGINE,
        "offline": Effect.ENGINE,
        "hub_url": Effect.ENGINE,
        "blocks": Effect.ENGINE,
        "num_blocks": Effect.ENGINE,
        "device": Effect.ENGINE,
        "dtype": Effect.ENGINE,
        "quantization": Effect.ENGINE,
        "handlers": Effect.ENGINE,
        "threads": Effect.ENGINE,
        "fast_path": Effect.ENGINE,
        "attention_cache_tokens": Effect.ENGINE,
        "max_batch_tokens": Effect.ENGINE,
        "cache_limit_gb": Effect.ENGINE,
        "throughput_rps": Effect.ENGINE,
        "start_timeout_s": Effect.RELOAD,
        "busy_limit_s": Effect.RELOAD,
        "stop_timeout_s": Effect.ENGINE,
        "sandbox": Effect.ENGINE,
        "allow_pickle": Effect.ENGINE,
    },
    "swarm": {
        "listen": Effect.ENGINE,
        "announce": Effect.ENGINE,
        "initial_peers": Effect.ENGINE,
        "new_swarm": Effect.ENGINE,
        "identity_file": Effect.ENGINE,
        "prefix": Effect.ENGINE,
        "public_name": Effect.ENGINE,
        "bandwidth_mbps": Effect.ENGINE,
        "use_relay": Effect.ENGINE,
    },
    "oracle": {
        "enabled": Effect.DAEMON,
        "url": Effect.RELOAD,
        # These decide whether the engine makes proofs.
        "dialect": Effect.ENGINE,
        "proofs": Effect.ENGINE,
        "interval_s": Effect.RELOAD,
        "timeout_s": Effect.RELOAD,
        "registration": Effect.DAEMON,
        "registration_timeout_s": Effect.RELOAD,
        "endpoint": Effect.RELOAD,
    },
    "chain": {
        "enabled": Effect.DAEMON,
        "rpc_urls": Effect.RELOAD,
        "chain_id": Effect.DAEMON,
        "rpc_timeout_s": Effect.RELOAD,
        "heartbeat_interval_s": Effect.RELOAD,
        "heartbeat_when": Effect.RELOAD,
        "agent_registry": Effect.DAEMON,
        "reward_pool": Effect.DAEMON,
        "max_fee_gwei": Effect.RELOAD,
        "replace_after_s": Effect.RELOAD,
        "low_balance_plm": Effect.RELOAD,
        # This one, too, decides whether the engine makes proofs.
        "verify_on_chain": Effect.ENGINE,
        "verify_per_hour": Effect.RELOAD,
        "verify_max_cost_plm": Effect.RELOAD,
    },
    "wallet": {
        "keystore": Effect.DAEMON,
        "password_file": Effect.DAEMON,
        "password_credential": Effect.DAEMON,
    },
    "rewards": {
        "auto_claim": Effect.RELOAD,
        "threshold_plm": Effect.RELOAD,
        "gas_factor": Effect.RELOAD,
    },
    "metrics": {
        "listen": Effect.DAEMON,
    },
    "log": {
        "level": Effect.RELOAD,
        "format": Effect.RELOAD,
    },
}
"""Every key of every table."""
