"""Makes etc/plumise/node.toml and docs/configuration.md from the settings' own descriptions.

`python -m plumised.config.reference toml` and `… markdown` print them; a test holds the files in the repository to it.
"""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plumised.config.effects import EFFECTS, Effect
from plumised.config.settings import SECTIONS
from plumised.config.urls import Listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WIDTH = 110

_NONE_IS = {("engine", "throughput_rps"): "auto"}
"""Keys that have a word of their own for None."""

_NEEDS = {Effect.RELOAD: "", Effect.ENGINE: " Restarts the engine.", Effect.DAEMON: " Needs a daemon restart."}
"""What a key's comment says of its effect."""

_TOML_OPENING = """\
The configuration of plumised. Every key is here with its default, commented out; docs/configuration.md has them as
tables. Files named *.toml in node.toml.d beside this file are read after it, in the order of their names, and win key
by key. `plumised check-config /etc/plumise/node.toml` says what is wrong with them.

`plumised reload` has the daemon read them again. It restarts the engine for keys that say so, and refuses those that
need a daemon restart; the others take effect at once.

No secret belongs here: the wallet's key is in the keystore, and its password in a file or credential of its own.
"""

_MARKDOWN_OPENING = """\
# Configuration

<!-- Made by `python -m plumised.config.reference markdown`; change plumised/config/sections instead. -->

`plumised` reads `/etc/plumise/node.toml`, or the file that `--config` names, and after it the drop-ins
`node.toml.d/*.toml` beside that file, in the order of their names. A later file wins key by key; an array is replaced
as a whole. Types are strict: a number in quotes is a mistake, and so is a key that does not exist.

`plumised check-config [--json] FILE` names every mistake with file, line, key, what is wrong and what would be right.
It exits with 0 if there is none and with 78 if there is any, as `plumised run` does. With `--json` it prints a list of
`{"file", "line", "key", "problem", "remedy"}` on standard output.

`plumised reload` (`systemctl reload plumised`, SIGHUP) has the daemon read the files again. The tables say what becomes
of a changed key: it takes effect on the *reload*; the reload drains and restarts the engine for it (*engine restart*);
or the reload is refused as a whole and changes nothing (*daemon restart*). See [operations.md](operations.md#reload).

Secrets are refused in these files. The wallet's key is in the keystore (`plumised wallet create` or `import`); its
password comes from `wallet.password_file` or from the systemd credential that `wallet.password_credential` names.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the reference.

    Attributes:
        default: what the key is when it is not set, as TOML; None when it is then unset.
        example: what to show in the file, as TOML: the default where there is one.
        effect: what has to happen before a changed value counts.
    """

    section: str
    key: str
    description: str
    default: str | None
    example: str
    effect: Effect


def entries() -> Iterator[Entry]:
    """Every key of node.toml in its order."""
    for section, model in SECTIONS.items():
        for key, field in model.model_fields.items():
            word = _NONE_IS.get((section, key))
            default = None if field.is_required() else field.get_default(call_default_factory=False)
            text = word if default is None else default
            written = None if text is None else as_toml(text)
            example = written if written is not None else as_toml((field.examples or [""])[0])
            yield Entry(section, key, field.description or "", written, example, EFFECTS[section][key])


def as_toml(value: object) -> str:
    """The value as node.toml writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case tuple():
            return "[" + ", ".join(as_toml(item) for item in value) + "]"
        case str() | Path() | Listen():
            # TOML's strings are JSON's, but for DEL, which has to be escaped as the other control characters have.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            raise TypeError(f"{value!r} has no form in TOML")


def toml() -> str:
    """etc/plumise/node.toml."""
    lines = [f"# {line}".rstrip() for line in _TOML_OPENING.splitlines()]
    for section, keys in _by_section().items():
        lines += ["", "", *_comment(SECTIONS[section].__doc__ or ""), f"[{section}]"]
        for entry in keys:
            lines += [
                "",
                *_comment(f"{entry.description}{_NEEDS[entry.effect]}{_lead_in(entry)}"),
                f"#{entry.key} = {entry.example}",
            ]
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """docs/configuration.md."""
    lines = _MARKDOWN_OPENING.splitlines()
    for section, keys in _by_section().items():
        lines += ["", f"## [{section}]", "", " ".join(_plain(SECTIONS[section].__doc__ or "").split()), ""]
        lines += ["| key | default | takes effect on | meaning |", "| --- | --- | --- | --- |"]
        for entry in keys:
            default = "(unset)" if entry.default is None else f"`{entry.default}`"
            lines.append(f"| `{entry.key}` | {default} | {entry.effect} | {entry.description} |")
    return "\n".join(lines) + "\n"


def _by_section() -> Mapping[str, Sequence[Entry]]:
    grouped: dict[str, list[Entry]] = {}
    for entry in entries():
        grouped.setdefault(entry.section, []).append(entry)
    return grouped


def _lead_in(entry: Entry) -> str:
    """What tells an example from a default."""
    if entry.default is not None:
        return ""
    told = "By default" in entry.description or "Without either" in entry.description
    return " For example:" if told else " Unset by default. For example:"


def _plain(docstring: str) -> str:
    return docstring.split("\n\n", maxsplit=1)[0]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(_plain(text), WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write({"toml": toml, "markdown": markdown}[sys.argv[1]]())
