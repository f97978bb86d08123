"""A configuration directory to write files into, and what loading them gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from plumised.config import ConfigError, ConfigProblem, Settings, load

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Etc:
    directory: Path

    @property
    def file(self) -> Path:
        return self.directory / "node.toml"

    def write(self, text: str | bytes) -> Etc:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def drop_in(self, name: str, text: str) -> Path:
        path = self.directory / "node.toml.d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def load(self) -> Settings:
        return load(self.file, host_name="testhost")

    def problems(self) -> tuple[ConfigProblem, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load()
        return caught.value.problems

    def problem(self) -> ConfigProblem:
        (only,) = self.problems()
        return only


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    return Etc(tmp_path)
