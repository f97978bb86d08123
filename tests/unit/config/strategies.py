"""Any valid settings, and a second value for each key that one can set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from plumised.config import Settings
from plumised.config.settings import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = tuple(f"{section}.{key}" for section, model in SECTIONS.items() for key in model.model_fields)

PEER = "/ip4/192.0.2.7/tcp/31330/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
CONTRACT = "0x00000000000000000000000000000000000000AA"

OTHER: Mapping[str, object] = {
    "node.name": "other",
    "node.state_dir": "/srv/state",
    "node.runtime_dir": "/srv/run",
    "node.cache_dir": "/srv/cache",
    "node.control_socket": "/srv/control.sock",
    "engine.python": "/srv/python",
    "engine.model": "example/model",
    "engine.revision": "v2",
    "engine.offline": True,
    "engine.hub_url": "https://hub.example.org",
    "engine.blocks": "3:7",
    "engine.num_blocks": 5,
    "engine.device": "cpu",
    "engine.dtype": "float16",
    "engine.quantization": "int8",
    "engine.handlers": 7,
    "engine.threads": 3,
    "engine.fast_path": False,
    "engine.attention_cache_tokens": 8192,
    "engine.max_batch_tokens": 512,
    "engine.cache_limit_gb": 7.5,
    "engine.throughput_rps": 12.5,
    "engine.start_timeout_s": 77.0,
    "engine.busy_limit_s": 78.0,
    "engine.stop_timeout_s": 79.0,
    "engine.sandbox": "required",
    "engine.allow_pickle": True,
    "swarm.listen": ["/ip4/127.0.0.1/tcp/4001"],
    "swarm.announce": ["/ip4/192.0.2.1/tcp/4001"],
    "swarm.initial_peers": [PEER],
    "swarm.new_swarm": True,
    "swarm.identity_file": "/srv/identity.key",
    "swarm.prefix": "other",
    "swarm.public_name": "Other",
    "swarm.bandwidth_mbps": 250.0,
    "swarm.use_relay": False,
    "oracle.enabled": False,
    "oracle.url": "https://oracle.example.org",
    "oracle.dialect": "report-v1",
    "oracle.interval_s": 90.0,
    "oracle.timeout_s": 9.0,
    "oracle.proofs": False,
    "oracle.registration": "always",
    "oracle.registration_timeout_s": 99.0,
    "oracle.endpoint": "http://203.0.113.7:31331",
    "chain.enabled": False,
    "chain.rpc_urls": ["https://rpc.example.org"],
    "chain.chain_id": 419561,
    "chain.rpc_timeout_s": 4.0,
    "chain.heartbeat_interval_s": 60.0,
    "chain.heartbeat_when": "always",
    "chain.agent_registry": CONTRACT,
    "chain.reward_pool": CONTRACT,
    "chain.max_fee_gwei": 2.0,
    "chain.replace_after_s": 33.0,
    "chain.low_balance_plm": 0.5,
    "chain.verify_on_chain": True,
    "chain.verify_per_hour": 2,
    "chain.verify_max_cost_plm": 0.5,
    "wallet.keystore": "/srv/keystore.json",
    "wallet.password_file": "/srv/password",
    "wallet.password_credential": "password",
    "rewards.auto_claim": True,
    "rewards.threshold_plm": 4.0,
    "rewards.gas_factor": 3.0,
    "metrics.listen": "127.0.0.1:9999",
    "log.level": "debug",
    "log.format": "json",
}
"""A value for each key that is not its default."""

_EXCLUDED = tuple(
    frozenset({f"{section}.{one}", f"{section}.{other}"})
    for section, model in SECTIONS.items()
    for one, other in model.exclusive
)


def settings_with(*keys: str) -> Settings:
    """The settings that have the other value at these keys, and the default elsewhere."""
    tables: dict[str, dict[str, object]] = {"node": {"name": "node"}}
    for key in keys:
        section, name = key.split(".")
        tables.setdefault(section, {})[name] = OTHER[key]
    return Settings.model_validate(tables)


def key_sets() -> st.SearchStrategy[frozenset[str]]:
    """Keys that may be set together."""
    return st.frozensets(st.sampled_from(KEYS)).filter(lambda keys: not any(pair <= keys for pair in _EXCLUDED))
