from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from plumised.manual.completion import completion
from plumised.manual.surface import Command, Value, surface

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60
COMMANDS = list(surface().all())

PROGRAM = """
source /usr/share/bash-completion/bash_completion
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
COMP_LINE=${COMP_LINE// = /=} COMP_POINT=${#COMP_LINE}
_plumised plumised "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "plumised"
    file.write_text(completion().replace("/etc/plumise/", f"{tmp_path}/etc/"), encoding="utf-8")
    return file


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of the words."""
    done = subprocess.run(
        ["bash", "--norc", "-c", PROGRAM, "bash", script, *words],
        cwd=script.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_every_command_offers_what_goes_on_from_it(command: Command, script: Path) -> None:
    below = {each.words[-1] for each in command.below}
    options = {flag for argument in command.arguments for flag in argument.flags} | {"--help"}

    assert completed(script, *command.words, "" if below else "-") == (below or options)


@pytest.mark.parametrize(
    ("command", "flag", "choices"),
    [
        (command, argument.flags[-1], argument.choices)
        for command in COMMANDS
        for argument in command.arguments
        if argument.value is Value.CHOICE
    ],
)
def test_a_choice_offers_its_values(command: Command, flag: str, choices: tuple[str, ...], script: Path) -> None:
    assert completed(script, *command.words, flag, "") == set(choices)


def test_a_part_of_a_word_is_completed(script: Path) -> None:
    assert completed(script, "plumised", "wallet", "c") == {"create", "change-password"}


def test_options_do_not_hide_the_command(script: Path) -> None:
    assert completed(script, "plumised", "wait", "--timeout", "5", "--for", "s") == {"serving", "stopped"}


# bash makes a word of its own of an equals sign.
@pytest.mark.parametrize("words", [["--config", ""], ["--config", "=", ""], ["--socket", ""]])
def test_a_file_is_looked_for_in_the_directory(words: list[str], script: Path) -> None:
    assert "plumised" in completed(script, "plumised", "status", *words)


def test_the_file_to_check_is_looked_for_as_well(script: Path) -> None:
    assert "plumised" in completed(script, "plumised", "check-config", "")


def test_an_instance_is_one_that_has_a_file(script: Path) -> None:
    etc = script.parent / "etc"
    etc.mkdir()
    for name in ("node.toml", "gpu0.toml", "gpu1.toml", "gpu0.password"):
        (etc / name).touch()

    assert completed(script, "plumised", "status", "--instance", "") == {"gpu0", "gpu1"}


def test_without_files_there_is_no_instance(script: Path) -> None:
    assert completed(script, "plumised", "status", "--instance", "") == set()
