"""Completion for bash, from the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.config.layout import PLAIN
from plumised.manual.surface import Argument, Command, Value, surface

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPENING = """\
# Completion of plumised(8) for bash. Made by `python -m plumised.manual completion`.

_plumised_instances() {
    local file name
    for file in DIRECTORY/*.toml; do
        name=${file##*/} name=${name%.toml}
        if [[ -e $file && $name != DEFAULT ]]; then
            printf '%s\\n' "$name"
        fi
    done
}

_plumised() {
    local cur prev words cword split
    _init_completion -s || return

    local command=plumised word
    for word in "${words[@]:1:cword-1}"; do
        case "$command $word" in
"""

_ENDING = """\
    esac
} && complete -F _plumised plumised
"""


def completion() -> str:
    """The file for /usr/share/bash-completion/completions."""
    root = surface()
    opening = _OPENING.replace("DIRECTORY", str(PLAIN.config_file.parent)).replace("DEFAULT", PLAIN.config_file.stem)
    lines = [
        *opening.splitlines(),
        *_case((command.name for command in root.all() if command is not root), 'command+=" $word"', indent=12),
        "        esac",
        "    done",
        "",
        '    case "$command $prev" in',
        *_values(root),
        "    esac",
        "    $split && return",
        "",
        "    case $command in",
    ]
    for command in root.all():
        lines += _case([command.name], *_words(command), indent=8)
    return "\n".join([*lines, *_ENDING.splitlines()]) + "\n"


def _values(root: Command) -> Iterator[str]:
    """What follows an option that takes a value."""
    grouped: dict[str, list[str]] = {}
    for command in root.all():
        for argument in command.arguments:
            if argument.flags and argument.value is not Value.NOTHING:
                names = [f"{command.name} {flag}" for flag in argument.flags]
                grouped.setdefault(_completing(argument), []).extend(names)
    for completing, names in grouped.items():
        yield from _case(names, completing, "return", indent=8)


def _words(command: Command) -> Iterator[str]:
    """What may stand where nothing asks for a value."""
    options = [flag for argument in command.arguments for flag in argument.flags]
    names = [each.words[-1] for each in command.below]
    yield _reply(" ".join(names or [*options, "--help"]))
    if not names and any(not argument.flags and argument.value is Value.FILE for argument in command.arguments):
        yield "[[ $cur == -* ]] || _filedir"


def _completing(argument: Argument) -> str:
    match argument.value:
        case Value.FILE:
            return "_filedir"
        case Value.INSTANCE:
            return _reply("$(_plumised_instances)")
        case Value.CHOICE:
            return _reply(" ".join(argument.choices))
        case _:
            return "COMPREPLY=()"


def _reply(words: str) -> str:
    quote = '"' if "$" in words else "'"
    return f'mapfile -t COMPREPLY < <(compgen -W {quote}{words}{quote} -- "$cur")'


def _case(patterns: Iterator[str] | list[str], *actions: str, indent: int) -> Iterator[str]:
    names = " | ".join(f"'{pattern}'" for pattern in patterns)
    margin = " " * indent
    yield f"{margin}{names})"
    for action in actions:
        yield f"{margin}    {action}"
    yield f"{margin}    ;;"
