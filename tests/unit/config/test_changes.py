from __future__ import annotations

from hypothesis import given

from plumised.config import EFFECTS, Changes, Effect, Settings, changes
from plumised.config.settings import SECTIONS
from tests.unit.config.strategies import KEYS, OTHER, key_sets, settings_with


def told(found: Changes) -> list[str]:
    return [*found.live, *found.engine, *found.daemon]


def differing(old: Settings, new: Settings) -> set[str]:
    return {
        f"{section}.{key}"
        for section, model in SECTIONS.items()
        for key in model.model_fields
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
    }


def test_every_key_has_an_effect_and_nothing_else_has() -> None:
    assert {section: list(keys) for section, keys in EFFECTS.items()}.keys() == SECTIONS.keys()
    for section, model in SECTIONS.items():
        assert EFFECTS[section].keys() == model.model_fields.keys()


def test_every_key_has_another_value_here() -> None:
    assert OTHER.keys() == set(KEYS)
    for key in KEYS:
        assert key in differing(settings_with(), settings_with(key))


@given(key_sets(), key_sets())
def test_every_changed_key_is_told_once_and_no_other_is(before: frozenset[str], after: frozenset[str]) -> None:
    old, new = settings_with(*before), settings_with(*after)
    found = changes(old, new)

    assert sorted(told(found)) == sorted(differing(old, new))
    for effect, keys in ((Effect.RELOAD, found.live), (Effect.ENGINE, found.engine), (Effect.DAEMON, found.daemon)):
        assert all(EFFECTS[section][name] is effect for section, name in (key.split(".") for key in keys))


@given(key_sets())
def test_the_same_settings_have_no_changes(keys: frozenset[str]) -> None:
    assert not changes(settings_with(*keys), settings_with(*keys))


def test_a_directory_takes_along_what_is_kept_in_it() -> None:
    found = changes(settings_with(), settings_with("node.state_dir"))
    assert found == Changes(engine=("swarm.identity_file",), daemon=("node.state_dir", "wallet.keystore"))
