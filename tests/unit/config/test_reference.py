from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

from plumised.config import Settings, load, reference
from plumised.config.settings import SECTIONS

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "etc/plumise/node.toml"
DOCUMENT = ROOT / "docs/configuration.md"

DEFAULTS = Settings.model_validate({"node": {"name": "testhost"}})


def commented_keys() -> dict[tuple[str, str], tuple[str, str]]:
    """Each key of the shipped file with the TOML that it is commented out with, and the comment above it."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    section, comment = "", ""
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif setting := re.fullmatch(r"#(\w+) = (.+)", line):
            found[section, setting[1]] = setting[2], comment
        comment = f"{comment} {line[2:]}" if line.startswith("# ") else ""
    return found


KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]


def test_the_shipped_file_is_good_and_changes_nothing() -> None:
    assert load(SHIPPED, host_name="testhost") == DEFAULTS


def test_the_shipped_file_has_every_key_and_no_other() -> None:
    assert list(commented_keys()) == KEYS


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_a_key_of_the_shipped_file_has_its_default(section: str, key: str, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    written, comment = commented_keys()[section, key]
    file.write_text(f"[{section}]\n{key} = {written}\n", encoding="utf-8")

    set_value = getattr(getattr(load(file, host_name="other"), section), key)
    default = getattr(getattr(DEFAULTS, section), key)

    if comment.endswith("For example:"):
        assert default is None or (section, key) in {("node", "name"), ("chain", "agent_registry")}
    else:
        assert set_value == default


def test_every_key_is_described() -> None:
    assert all(entry.description.endswith(".") for entry in reference.entries())


def test_the_shipped_file_is_made_from_the_settings() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == reference.toml(), "run python -m plumised.config.reference toml"


def test_the_document_is_made_from_the_settings() -> None:
    made = reference.markdown()

    assert DOCUMENT.read_text(encoding="utf-8") == made, "run python -m plumised.config.reference markdown"


def test_the_settings_have_the_tables_that_the_reference_has() -> None:
    assert list(Settings.model_fields) == list(SECTIONS)
    assert all(Settings.model_fields[name].annotation is model for name, model in SECTIONS.items())


@pytest.mark.parametrize("value", [True, 3, 2.5, 1e-9, 'a"b\\c\nd', "\x7f", ("x", "y"), ()])
def test_what_the_reference_writes_reads_back(value: object) -> None:
    read = tomli.loads(f"key = {reference.as_toml(value)}")["key"]

    assert (tuple(read) if isinstance(read, list) else read) == value
