"""`[log]`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plumised.config.sections.section import Section


class LogSettings(Section, frozen=True):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity to log: debug, info, warning or error."
    )
    format: Literal["auto", "journal", "text", "json"] = Field(
        "auto", description="Form of a record: auto (journal under systemd, else text), journal, text or json."
    )
