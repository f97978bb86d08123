"""Tells in the log what confines an engine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from plumised.events import LogEvent, told
from plumised.ipc.messages import LayerName

if TYPE_CHECKING:
    from plumised.ipc.messages import Sandbox

_log: Final = logging.getLogger(__name__)
_EVENT: Final = told(LogEvent.ENGINE_SANDBOX)


def log_sandbox(sandbox: Sandbox) -> None:
    """One line for what is in force, and one for each thing that is not as it should be."""
    if not sandbox.layers:
        _log.warning("the engine runs without a sandbox, as engine.sandbox says", extra=_EVENT)
        return
    held = [f"{each.name} ({each.detail})" for each in sandbox.layers if each.active]
    _log.info("the engine's sandbox: %s", ", ".join(held) or "nothing", extra=_EVENT)
    for each in sandbox.layers:
        if not each.active:
            # Not every supported kernel can do this one.
            level = logging.INFO if each.name is LayerName.SIGNALS else logging.WARNING
            _log.log(level, "the engine's sandbox lacks %s: %s", each.name, each.detail, extra=_EVENT)
    for overlap in sandbox.overlaps:
        _log.warning("the engine's sandbox leaves open: %s", overlap, extra=_EVENT)
