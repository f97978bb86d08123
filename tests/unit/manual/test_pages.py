from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from plumised.cli import exits
from plumised.config.settings import SECTIONS
from plumised.errors import EXIT_CONFIG
from plumised.manual import roff
from plumised.manual.commands_page import commands_page
from plumised.manual.config_page import config_page
from plumised.manual.surface import Command, surface

ROOT = Path(__file__).parents[3]
PAGES = {"plumised.8": commands_page("2026-01-01"), "node.toml.5": config_page("2026-01-01")}
PATIENCE_S = 60


def rendered(page: str) -> str:
    """The page as a reader sees it, without the marks for bold and italic."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", "-rLL=200n"],
        input=PAGES[page],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == "", "groff warns"
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_renders_without_a_warning(page: str) -> None:
    assert "NAME" in rendered(page).upper()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_shown_by_man(page: str, tmp_path: Path) -> None:
    file = tmp_path / page
    file.write_text(PAGES[page], encoding="utf-8")

    shown = subprocess.run(
        ["man", "--warnings", "-l", file], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )

    assert shown.stderr == ""
    assert page.rpartition(".")[0] in shown.stdout


@pytest.mark.parametrize("page", PAGES)
def test_a_page_can_be_found_by_what_it_is_about(page: str, tmp_path: Path) -> None:
    file = tmp_path / page
    file.write_text(PAGES[page], encoding="utf-8")

    done = subprocess.run(["lexgrog", file], capture_output=True, text=True, timeout=PATIENCE_S, check=True)

    assert f'"{page.rpartition(".")[0]} - ' in done.stdout


@pytest.mark.parametrize(
    "command", [each for each in surface().all() if not each.below], ids=lambda command: str(command.name)
)
def test_every_command_is_there_with_what_it_takes(command: Command) -> None:
    shown = rendered("plumised.8")
    own = re.search(rf"^ +{re.escape(command.name)}\n(.*?)(?=^ {{3}}\S|^\S)", shown, re.DOTALL | re.MULTILINE)
    shared = shown.partition("Which node\n")[2].partition("Files\n")[0]

    assert own is not None
    for argument in command.arguments:
        said = " ".join((own[1] + shared).split())
        assert (argument.flags or (argument.metavar,))[-1] in said
        assert " ".join(argument.help[1:].split()) in said


@pytest.mark.parametrize(
    ("section", "key"), [(name, key) for name, model in SECTIONS.items() for key in model.model_fields]
)
def test_every_key_is_there_with_its_meaning(section: str, key: str) -> None:
    shown = rendered("node.toml.5")
    own = shown.partition(f"[{section}]\n")[2].partition("   [")[0]
    description = SECTIONS[section].model_fields[key].description or ""

    assert re.search(rf"^ +{key}( |$)", own, re.MULTILINE)
    assert description.replace("`", "") in " ".join(own.split())


def test_every_exit_status_is_explained() -> None:
    statuses = {value for name, value in vars(exits).items() if name.startswith("EXIT_")} | {0, EXIT_CONFIG}

    explained = rendered("plumised.8").partition("Exit status\n")[2].partition("Signals\n")[0]

    assert set(map(int, re.findall(r"^ {7}(\d+) ", explained, re.MULTILINE))) == statuses


def test_every_option_says_what_it_is_for() -> None:
    assert [(each.name, argument) for each in surface().all() for argument in each.arguments if not argument.help] == []


@pytest.mark.parametrize(
    "words",
    [
        ".TH is no macro here",
        "'quoted",
        r"a \fB backslash",
        'a "quote"',
        "a `command --with-option`",
        "…and more",
        "-x ~^`",
    ],
)
def test_any_text_is_shown_as_it_is(words: str) -> None:
    page = "\n".join([*roff.title("x", 1, date="", source=""), roff.heading("Name"), roff.text(words)]) + "\n"

    shown = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou"],
        input=page,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert shown.stderr == ""
    expected = words.replace("`", "") if words.count("`") == 2 else words
    assert expected in shown.stdout.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").replace("\N{HYPHEN}", "-")


def test_the_build_dates_a_page_by_the_source() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plumised.manual", "plumised.8"],
        cwd=ROOT,
        env={"SOURCE_DATE_EPOCH": "1767225600", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )

    assert done.stdout == PAGES["plumised.8"]
    assert done.stderr == ""
