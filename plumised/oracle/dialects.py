"""Which dialect to report in, where the operator leaves it open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.oracle.formats import Dialect

if TYPE_CHECKING:
    from plumised.ledger import LedgerThread

_FACT = "oracle.dialect"


class DialectChoice:
    """The dialect in use. A 404 of one means the other; what an Oracle has accepted is remembered in the ledger."""

    def __init__(self, url: str, fixed: Dialect | None, ledger: LedgerThread) -> None:
        """Set up.

        Args:
            url: of the Oracle.
            fixed: the operator's choice, or None to find out.
            ledger: where it is remembered.
        """
        self._url = url
        self._fixed = fixed
        self._ledger = ledger
        self._recalled = False
        self._found: Dialect | None = None
        self._current = fixed or Dialect.METRICS_V1

    @property
    def current(self) -> Dialect:
        """The one to use."""
        return self._current

    @property
    def found(self) -> bool:
        """Whether the Oracle has accepted a report in it."""
        return self._found is self._current

    async def recall(self) -> None:
        """Go on with what was remembered of this Oracle.

        Raises:
            LedgerError: not yet.
        """
        if self._recalled:
            return
        match await self._ledger.fact(_FACT):
            case {"url": self._url, "dialect": str(name)} if name in set(Dialect):
                self._found = Dialect(name)
                self._current = self._fixed or self._found
            case _:
                pass
        self._recalled = True

    async def confirm(self, dialect: Dialect) -> None:
        """The Oracle has accepted a report in it.

        Raises:
            LedgerError: it is not remembered yet.
        """
        if self._found is not dialect:
            await self._ledger.set_fact(_FACT, {"url": self._url, "dialect": dialect.value})
            self._found = dialect

    def turn_away(self) -> bool:
        """The Oracle has answered 404.

        Returns:
            Whether the other dialect is worth an attempt at once: it was not tried just before.
        """
        if self._fixed is not None:
            return False
        first = self._current is (self._found or Dialect.METRICS_V1)
        self._current = self._current.other
        return first
