"""What came of reading the configuration again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The keys that count now, as dotted names.

    Attributes:
        live: applied to what runs.
        engine: applied, and the engine was started anew for them.
    """

    live: tuple[str, ...] = ()
    engine: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What happened, for people."""
        if not self.live and not self.engine:
            return "Nothing has changed"
        applied = f"Applied {', '.join((*self.live, *self.engine))}"
        return f"{applied}; the engine is started anew" if self.engine else applied

    def to_json(self) -> str:
        """One JSON object: message, live, engine."""
        return json.dumps({"message": self.message, **asdict(self)}, ensure_ascii=False, indent=2) + "\n"
