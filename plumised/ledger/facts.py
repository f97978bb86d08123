"""Small things worth remembering across restarts, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from plumised.ledger.errors import LedgerDamagedError

if TYPE_CHECKING:
    from plumised.ledger.database import Database
    from plumised.ledger.records import JsonValue


class FactTable:
    """Names are `<package>.<what>`, for example `oracle.dialect`; whoever sets a fact owns its form."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str) -> JsonValue:
        """What was set last, or None.

        Raises:
            LedgerError: the file cannot be read.
        """
        rows = self._database.rows("SELECT value FROM facts WHERE key = ?", (key,))
        if not rows:
            return None
        try:
            return cast("JsonValue", json.loads(rows[0].text(0)))
        except ValueError as error:
            raise LedgerDamagedError(f"the fact {key} is not JSON", "restart plumised") from error

    def set(self, key: str, value: JsonValue) -> None:
        """Remember `value`; None forgets. Durable on return.

        Raises:
            ValueError: `value` holds a number that is not finite.
            LedgerError: it is as before.
        """
        text = json.dumps(value, allow_nan=False)
        with self._database.transaction(durable=True):
            if value is None:
                self._database.execute("DELETE FROM facts WHERE key = ?", (key,))
            else:
                self._database.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?, ?)", (key, text))
