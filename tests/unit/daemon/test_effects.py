"""What the table of effects says of a key is what the daemon does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plumised.config import EFFECTS, Effect, Settings
from plumised.daemon.directories import Places
from plumised.daemon.job import engine_job, engine_launch, engine_policy
from plumised.daemon.terms import announcing_terms, chain_terms, reporting_terms
from tests.unit.config.strategies import KEYS, settings_with

if TYPE_CHECKING:
    from collections.abc import Iterable

PROOF_KEYS = {"oracle.dialect", "oracle.proofs", "chain.verify_on_chain"}
"""Several of them decide together whether the engine makes proofs."""
READ_AS_SET = {"node.name", "chain.heartbeat_when", "log.level", "log.format"}
"""The node looks at these in its settings whenever it needs them, or gives them to the log."""


def keys_of(effect: Effect) -> Iterable[str]:
    return (key for key in KEYS if EFFECTS[key.split(".")[0]][key.split(".")[1]] is effect)


def engine_of(settings: Settings) -> tuple[object, ...]:
    """All that an engine is started with."""
    node = settings.node
    places = Places(node.state_dir, node.runtime_dir, node.cache_dir)
    return engine_job(settings, places, "life"), engine_launch(settings.engine, places)


def live(settings: Settings) -> tuple[object, ...]:
    """All that is given anew to parts that run."""
    return (
        reporting_terms(settings),
        announcing_terms(settings),
        chain_terms(settings),
        engine_policy(settings.engine),
    )


def beside(key: str) -> Settings:
    """Settings in which the key can show its effect."""
    return settings_with("chain.verify_on_chain") if key.startswith("chain.verify_") else settings_with()


def changed(key: str) -> Settings:
    if key.startswith("chain.verify_") and key != "chain.verify_on_chain":
        return settings_with("chain.verify_on_chain", key)
    return settings_with(key)


@pytest.mark.parametrize("key", [*keys_of(Effect.RELOAD)])
def test_a_key_that_is_applied_live_is_none_that_the_engine_is_started_with(key: str) -> None:
    assert engine_of(changed(key)) == engine_of(beside(key))


@pytest.mark.parametrize("key", [key for key in keys_of(Effect.RELOAD) if key not in READ_AS_SET])
def test_a_key_that_is_applied_live_is_given_to_a_part(key: str) -> None:
    assert live(changed(key)) != live(beside(key))


@pytest.mark.parametrize("key", [key for key in keys_of(Effect.ENGINE) if key not in PROOF_KEYS])
def test_a_key_that_restarts_the_engine_is_one_that_it_is_started_with(key: str) -> None:
    assert engine_of(settings_with(key)) != engine_of(settings_with())


@pytest.mark.parametrize("key", sorted(PROOF_KEYS))
def test_a_key_that_is_about_proofs_can_change_what_the_engine_is_started_with(key: str) -> None:
    others = {"oracle.dialect"} if key == "chain.verify_on_chain" else set()
    assert engine_of(settings_with(*others, key)) != engine_of(settings_with(*others))
