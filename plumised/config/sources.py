"""Reads node.toml and its drop-ins: what each key is set to, and in which line of which file."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import tomli

from plumised.config.problems import ConfigProblem
from plumised.config.settings import SECTIONS
from plumised.config.values import kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 1 << 20

Table = dict[str, object]
Key = tuple[str, ...]

_SECRET_NAME = re.compile(
    r"(^|[_-])(password|passwd|passphrase|pass|pwd|secret|mnemonic|seed|seed_phrase|private_?key|priv_?key|privkey|key)$"
)
_PRIVATE_KEY = re.compile(r"(0[xX])?[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Source:
    """One file as it was read: its tables and, for each key, the line that sets it."""

    file: Path
    tables: Table
    lines: dict[Key, int]

    def line(self, key: Key) -> int | None:
        """The line that sets the key or, failing that, opens the table it is in."""
        while key:
            if key in self.lines:
                return self.lines[key]
            key = key[:-1]
        return None


def files_of(file: Path) -> list[Path]:
    """The file and its drop-ins, `*.toml` in the directory named like the file with `.d` after it, in order.

    Raises:
        OSError: the directory is there but cannot be listed.
    """
    directory = file.with_name(f"{file.name}.d")
    if not directory.is_dir():
        return [file]
    return [file, *sorted(entry for entry in directory.iterdir() if entry.suffix == ".toml" and entry.stem[:1] != ".")]


def read(file: Path) -> Source | ConfigProblem:
    """The file's tables, or why they cannot be had."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return _unreadable(file, "does not exist", "Create it, or name the right file with --config.")
    except PermissionError:
        return _unreadable(file, "cannot be read by this user", "Let the user that runs plumised read the file.")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "its name is impossible"
        return _unreadable(file, f"cannot be read: {why}", "Name a readable file with --config.")
    if len(raw) > MAX_BYTES:
        return _unreadable(file, f"is larger than {MAX_BYTES} bytes", "Name a configuration file with --config.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return ConfigProblem(
            file,
            raw[: error.start].count(b"\n") + 1,
            None,
            f"is not UTF-8: byte {error.start} cannot be decoded",
            "Save the file in UTF-8.",
        )
    return _parsed(file, text.replace("\r\n", "\n"))


def _unreadable(file: Path, problem: str, remedy: str) -> ConfigProblem:
    return ConfigProblem(file, None, None, problem, remedy)


def _parsed(file: Path, text: str) -> Source | ConfigProblem:
    try:
        tables: Table = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        return ConfigProblem(
            file,
            error.lineno,
            None,
            f"is not valid TOML at line {error.lineno}, column {error.colno}: {_lower(error.msg)}",
            "Correct the line; strings stand in quotes, tables in [brackets].",
        )
    except (ValueError, RecursionError):
        return ConfigProblem(
            file,
            None,
            None,
            "is not TOML that can be read: a number is too long or a value nested too deep",
            "Shorten the number or the value.",
        )
    return Source(file, tables, _lines(text))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _lines(text: str) -> dict[Key, int]:
    """The line of each key and table header of a text that is valid TOML.

    A statement of TOML is a document by itself, and no part of it that ends at a line's end is: so lines are gathered
    until they parse.
    """
    found: dict[Key, int] = {}
    header: Key = ()
    statement, begin = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        statement += line + "\n"
        try:
            tables = tomli.loads(statement)
        except (ValueError, RecursionError):
            continue
        keys = list(_keys(tables))
        if statement.lstrip().startswith("["):
            header = keys[-1] if keys else header
            found.setdefault(header, begin)
        else:
            for key in keys:
                found.setdefault((*header, *key), begin)
        statement, begin = "", number + 1
    return found


def _keys(tables: Table) -> Iterator[Key]:
    for name, value in tables.items():
        yield (name,)
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            for key in _keys(cast("Table", inner)):
                yield (name, *key)


def misplaced(source: Source) -> tuple[Table, list[ConfigProblem]]:
    """What of the file may be merged, and what is wrong with the rest: unknown tables and keys, and secrets."""
    kept: Table = {}
    problems: list[ConfigProblem] = []

    def blame(key: Key, problem: str, remedy: str) -> None:
        problems.append(ConfigProblem(source.file, source.line(key), ".".join(key), problem, remedy))

    for section, table in source.tables.items():
        model = SECTIONS.get(section)
        if model is None:
            blame((section,), *_unknown_section(section, table))
        elif not isinstance(table, dict):
            blame(
                (section,),
                f"is {kind(table)}, but it is the name of a table",
                f"Write [{section}] on a line by itself and the keys below it.",
            )
        else:
            kept[section] = fitting = {}
            for key, value in table.items():
                if _is_secret(key, value, known=key in model.model_fields):
                    blame((section, key), *_secret())
                elif key not in model.model_fields:
                    blame((section, key), *_unknown_key(section, key))
                else:
                    fitting[key] = value
    return kept, problems


def _is_secret(name: str, value: object, *, known: bool) -> bool:
    if isinstance(value, str) and _PRIVATE_KEY.fullmatch(value.strip()):
        return True
    if isinstance(value, list):
        return any(_is_secret(name, item, known=known) for item in value)
    return not known and _SECRET_NAME.search(name.lower()) is not None


def _secret() -> tuple[str, str]:
    remedy = (
        "Remove it, and put the key into the keystore with `plumised wallet import`; a password belongs into the file "
        "that wallet.password_file names or into a systemd credential."
    )
    return "holds a secret, and this file is no place for one", remedy


def _unknown_section(section: str, table: object) -> tuple[str, str]:
    if not isinstance(table, dict):
        if _is_secret(section, table, known=False):
            return _secret()
        homes = _homes(section)
        if homes:
            return "stands outside of any table", f"Move it below [{homes[0]}]."
        return "is not a key, and it stands outside of any table", "Remove it; every key belongs to a table."
    close = difflib.get_close_matches(section, SECTIONS, n=1)
    if close:
        return "is not a table of this file", f"Did you mean [{close[0]}]?"
    return "is not a table of this file", f"The tables are {', '.join(SECTIONS)}."


def _unknown_key(section: str, key: str) -> tuple[str, str]:
    close = difflib.get_close_matches(key, SECTIONS[section].model_fields, n=1)
    if close:
        return "is not a key", f"Did you mean {section}.{close[0]}?"
    homes = _homes(key)
    if homes:
        return "is not a key", f"Did you mean {homes[0]}.{key}?"
    every = [f"{name}.{known}" for name, model in SECTIONS.items() for known in model.model_fields]
    near = difflib.get_close_matches(f"{section}.{key}", every, n=1, cutoff=0.75)
    if near:
        return "is not a key", f"Did you mean {near[0]}?"
    return "is not a key", f"Remove it; docs/configuration.md lists the keys of [{section}]."


def _homes(key: str) -> list[str]:
    return [section for section, model in SECTIONS.items() if key in model.model_fields]
