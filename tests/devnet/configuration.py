"""node.toml of nodes that belong to a devnet, wherever they run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Tables = dict[str, dict[str, object]]


def settings(
    model: str,
    blocks: str,
    listen: str,
    *,
    prefix: str,
    peers: Sequence[str],
    oracle_url: str,
    rpc_url: str,
    handlers: int = 1,
) -> Tables:
    """Tables for a node that serves blocks of a local checkpoint, and reports and beats much more often than usual.

    Args:
        model: directory of the checkpoint.
        blocks: span, as node.toml has it.
        listen: multiaddress that the engine listens on.
        prefix: of the swarm.
        peers: of the swarm that it joins; without them it begins one.
        oracle_url, rpc_url: of the devnet.
        handlers: of the engine.
    """
    way_in: dict[str, object] = {"initial_peers": list(peers)} if peers else {"new_swarm": True}
    return {
        "engine": {
            "model": model,
            "blocks": blocks,
            "offline": True,
            "device": "cpu",
            "dtype": "float32",
            "handlers": handlers,
            "throughput_rps": 10.0,
        },
        "swarm": {"listen": [listen], "prefix": prefix, "use_relay": False, **way_in},
        "oracle": {"url": oracle_url, "interval_s": 2.0},
        "chain": {"rpc_urls": [rpc_url], "heartbeat_interval_s": 5.0},
    }


def merged(tables: Tables, *further: Mapping[str, Mapping[str, object]]) -> Tables:
    """The tables with keys of further ones put over theirs."""
    whole = dict(tables)
    for more in further:
        for name, table in more.items():
            whole[name] = {**whole.get(name, {}), **table}
    return whole


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Tables of plain values as TOML. JSON's strings, numbers, booleans and arrays are TOML's too."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        lines.append("")
    return "\n".join(lines)
