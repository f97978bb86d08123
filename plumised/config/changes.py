"""What changed from one configuration to the next, and what each change asks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.config.effects import EFFECTS, Effect

if TYPE_CHECKING:
    from plumised.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Changes:
    """Changed keys as dotted names, by what they ask for; each stands in one of the three.

    Attributes:
        live: applied to what runs.
        engine: applied, and the engine is restarted for them.
        daemon: the daemon must be started anew for them.
    """

    live: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()
    daemon: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.live or self.engine or self.daemon)


def changes(old: Settings, new: Settings) -> Changes:
    """The keys whose values differ, derived defaults included, in the order of node.toml."""
    found: dict[Effect, list[str]] = {effect: [] for effect in Effect}
    for section, effects in EFFECTS.items():
        before, after = getattr(old, section), getattr(new, section)
        for key, effect in effects.items():
            if getattr(before, key) != getattr(after, key):
                found[effect].append(f"{section}.{key}")
    return Changes(tuple(found[Effect.RELOAD]), tuple(found[Effect.ENGINE]), tuple(found[Effect.DAEMON]))
