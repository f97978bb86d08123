"""What the engine is told, made from the settings."""

from __future__ import annotations

import pytest

from plumised.config import Settings
from plumised.daemon.job import proofs_wanted


@pytest.mark.parametrize(
    ("oracle", "chain", "wanted"),
    [
        ({}, {}, True),
        ({"dialect": "metrics-v1"}, {}, True),
        ({"dialect": "report-v1"}, {}, False),
        ({"proofs": False}, {}, False),
        ({"enabled": False}, {}, False),
        ({"proofs": False}, {"verify_on_chain": True}, True),
        ({"enabled": False}, {"verify_on_chain": True, "enabled": False}, False),
    ],
)
def test_the_engine_proves_where_an_oracle_or_the_chain_takes_proofs(
    oracle: dict[str, object], chain: dict[str, object], wanted: bool
) -> None:
    settings = Settings.model_validate({"node": {"name": "any"}, "oracle": oracle, "chain": chain})
    assert proofs_wanted(settings) is wanted
