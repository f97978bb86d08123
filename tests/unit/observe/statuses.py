"""Statuses for the tests: a healthy node, and changes to it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from plumised.observe.status import (
    ChainStatus,
    EngineState,
    EngineStatus,
    LayerStatus,
    NodeStatus,
    OracleStatus,
    SandboxStatus,
    Status,
    Trouble,
    UsageStatus,
    WalletStatus,
    Work,
)

if TYPE_CHECKING:
    from typing import Any

NOW = 1_770_000_000.0
AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
PLM = 10**18

HEALTHY = Status(
    at=NOW,
    node=NodeStatus("alpha", "0.1.0", 4711, NOW - 7300),
    engine=EngineStatus(
        EngineState.SERVING,
        "bigscience/bloom-560m",
        NOW - 3600,
        phase="online",
        span_start=0,
        span_end=12,
        total_blocks=24,
        peer_id="12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        device="cpu",
        dtype="float32",
        quantization="int8",
        path="kernel-avx2",
        pid=4712,
        sandbox=SandboxStatus(
            "auto",
            (
                LayerStatus("files", active=True, detail="Landlock ABI 6"),
                LayerStatus("signals", active=True, detail="Landlock ABI 6"),
                LayerStatus("system-calls", active=True, detail="seccomp"),
                LayerStatus("no-new-privileges", active=True, detail="prctl"),
            ),
        ),
    ),
    usage=UsageStatus(inference=Work(7, 20, 12345, 410_000), forward=Work(1, 1, 5, 1000)),
    oracle=OracleStatus(
        enabled=True,
        url="http://localhost:3100",
        interval_s=60.0,
        dialect="metrics-v1",
        last_accepted_at=NOW - 35,
        reports_accepted=12,
        tokens_reported=12000,
    ),
    chain=ChainStatus(
        enabled=True,
        chain_id=41956,
        heartbeats_due=True,
        registered=True,
        balance_wei=3 * PLM // 2,
        low_balance_wei=PLM // 100,
        last_heartbeat_at=NOW - 12,
        last_heartbeat_tx="0xab",
        heartbeats=3,
    ),
    wallet=WalletStatus(AGENT, "/var/lib/plumise/wallet/keystore.json"),
)

TROUBLE = Trouble("some-code", "Something is wrong", "Do something.", NOW - 60, NOW + 30, ("last line",))


def unconfined(*names: str) -> Status:
    """The healthy node with an engine that lacks these layers of its sandbox."""
    whole = HEALTHY.engine.sandbox
    assert whole is not None
    layers = tuple(
        LayerStatus(each.name, active=False, detail="why") if each.name in names else each for each in whole.layers
    )
    return engine(sandbox=replace(whole, layers=layers))


def node(**changes: Any) -> Status:
    return replace(HEALTHY, node=replace(HEALTHY.node, **changes))


def engine(**changes: Any) -> Status:
    return replace(HEALTHY, engine=replace(HEALTHY.engine, **changes))


def oracle(**changes: Any) -> Status:
    return replace(HEALTHY, oracle=replace(HEALTHY.oracle, **changes))


def chain(**changes: Any) -> Status:
    return replace(HEALTHY, chain=replace(HEALTHY.chain, **changes))
