"""What the engine is told, made from the settings."""

from __future__ import annotations

import pytest

from plumised.config import Settings
from plumised.daemon.directories import Places
from plumised.daemon.job import engine_job, proofs_wanted


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


def test_the_engine_is_told_what_to_keep_away_from() -> None:
    settings = Settings.model_validate(
        {
            "node": {"name": "any", "state_dir": "/srv/state", "runtime_dir": "/srv/run"},
            "wallet": {"keystore": "/srv/keys/keystore.json", "password_file": "/srv/keys/password"},
            "engine": {"sandbox": "required"},
        }
    )
    node = settings.node
    job = engine_job(settings, Places(node.state_dir, node.runtime_dir, node.cache_dir), "life")

    assert job.sandbox == "required"
    assert set(job.hidden) == {
        "/srv/state",
        "/srv/keys/keystore.json",
        "/srv/keys/password",
        "/srv/run/control.sock",
        "/run/credentials",
    }


def test_what_the_engine_keeps_is_in_its_own_part_of_the_state() -> None:
    settings = Settings.model_validate({"node": {"name": "any", "state_dir": "/srv/state"}})
    node = settings.node
    job = engine_job(settings, Places(node.state_dir, node.runtime_dir, node.cache_dir), "life")

    assert (job.tally_dir, job.identity_file) == ("/srv/state/engine/tally", "/srv/state/engine/identity.key")
