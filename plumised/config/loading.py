"""node.toml and its drop-ins -> `Settings`, or every mistake at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from plumised.config import messages, sources
from plumised.config.layout import PLAIN
from plumised.config.problems import ConfigError, ConfigProblem
from plumised.config.settings import SECTIONS, Settings
from plumised.config.values import name_of_host

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from plumised.config.layout import Layout
    from plumised.config.sources import Key, Source, Table


def load(file: Path, *, host_name: str, layout: Layout = PLAIN) -> Settings:
    """The settings that the file and its drop-ins make; a later file wins, key by key, arrays as a whole.

    Args:
        file: node.toml; drop-ins are read from the directory beside it that is named like it with `.d` after it.
        host_name: what the node is called if no file says so; an instance adds its name.
        layout: where the node's directories are if no file says so.

    Raises:
        ConfigError: with every mistake in every file.
    """
    problems: list[ConfigProblem] = []
    read: list[Source] = []
    try:
        files = sources.files_of(file)
    except OSError as error:
        files = [file]
        problems.append(
            ConfigProblem(
                file.with_name(f"{file.name}.d"),
                None,
                None,
                f"cannot be listed: {error.strerror}",
                "Let the user that runs plumised read the directory.",
            )
        )
    merged: Table = {}
    for each in files:
        source = sources.read(each)
        if isinstance(source, ConfigProblem):
            problems.append(source)
            continue
        kept, misplaced = sources.misplaced(source)
        problems.extend(misplaced)
        merged = _merged(merged, kept)
        read.append(source)

    problems.extend(_conflicts(merged, file, read))
    named = {**merged, "node": {**_node(layout, host_name), **cast("Table", merged.get("node", {}))}}
    try:
        settings = Settings.model_validate(named)
    except ValidationError as error:
        for fault in messages.faults(error):
            holder = _holder(fault.key, read)
            problems.append(
                ConfigProblem(
                    holder.file if holder else file,
                    holder.line(fault.key) if holder else None,
                    ".".join(fault.key),
                    fault.problem,
                    fault.remedy,
                )
            )
    else:
        if not problems:
            return settings
    order = {each: place for place, each in enumerate(files)}
    raise ConfigError(sorted(problems, key=lambda problem: (order.get(problem.file, -1), problem.line or 0)))


def _node(layout: Layout, host_name: str) -> Table:
    """What [node] is where no file says otherwise."""
    return {
        "name": name_of_host(host_name, layout.instance),
        "state_dir": layout.state_dir,
        "cache_dir": layout.cache_dir,
        "runtime_dir": layout.runtime_dir,
    }


def _merged(below: Table, above: Table) -> Table:
    merged = dict(below)
    for section, table in above.items():
        merged[section] = {**cast("Table", merged.get(section, {})), **cast("Table", table)}
    return merged


def _holder(key: Key, read: Sequence[Source]) -> Source | None:
    """The file whose value for the key counts: the last that sets it."""
    section, name = key[0], key[-1]
    for source in reversed(read):
        table = source.tables.get(section)
        if isinstance(table, dict) and name in table:
            return source
    return None


def _conflicts(merged: Table, file: Path, read: Sequence[Source]) -> list[ConfigProblem]:
    """Pairs of keys that exclude each other, blamed on the one that was set last."""
    found = []
    for section, model in SECTIONS.items():
        table = cast("Table", merged.get(section, {}))
        for pair in model.exclusive:
            if not all(table.get(key) for key in pair):
                continue
            places = []
            for key in pair:
                holder = _holder((section, key), read)
                line = holder.line((section, key)) if holder else None
                places.append((read.index(holder) if holder else -1, line or 0, key, holder.file if holder else file))
            (_, other_line, other, other_file), (_, line, key, blamed) = sorted(places)
            at = f"line {other_line}" if other_file == blamed else f"{other_file}:{other_line}"
            found.append(
                ConfigProblem(
                    blamed,
                    line or None,
                    f"{section}.{key}",
                    f"excludes {section}.{other}, which is set at {at}",
                    f"Remove {key} or {other}.",
                )
            )
    return found
