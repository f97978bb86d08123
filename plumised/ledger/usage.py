"""The work served: maxima per incarnation and handler, folded once an incarnation is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.ipc.messages import Counters, Kind, Usage
from plumised.ledger.merging import later_usage, require_plausible, total
from plumised.ledger.records import Totals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plumised.ledger.database import Database, Row

News = tuple[str, str, Usage]
"""Incarnation, handler, and what that handler served so far."""

_CLOSED_KEPT = 10_000
"""Ended incarnations that are remembered. Stragglers only ever come from the last few."""


class UsageTable:
    """Counters in, totals out. What the disk refuses is kept in memory and written with the next success."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unwritten: dict[tuple[str, str], Usage] = {}

    @property
    def unwritten(self) -> int:
        """Handlers whose newest counters are in memory only."""
        return len(self._unwritten)

    def record(self, news: Iterable[News]) -> Totals:
        """Merge by maximum, commit, and return the totals. News of a closed incarnation is ignored.

        Raises:
            ImplausibleUsageError: nothing of `news` is kept.
            LedgerError: nothing was committed; it is kept and merged with the next call.
        """
        self._hold(news)
        if self._unwritten:
            with self._database.transaction():
                self._write()
            self._unwritten.clear()
        return self.totals()

    def close(self, incarnation: str, news: Iterable[News] = ()) -> Totals:
        """Record `news`, then fold an incarnation that is over into the base of the totals. May be repeated.

        Raises:
            ImplausibleUsageError: nothing of `news` is kept.
            LedgerError: the incarnation is as before; the news is kept.
        """
        self._hold(news)
        with self._database.transaction():
            self._write()
            if not self._is_closed(incarnation):
                rows = self._database.rows(f"{_SELECT} FROM usage WHERE incarnation = ?", (incarnation,))
                folded = total([_totals(rows), self._folded()])
                for kind, counters in _by_kind(folded):
                    self._database.execute(
                        "INSERT OR REPLACE INTO folded (kind, requests, steps, tokens, service_us)"
                        " VALUES (?, ?, ?, ?, ?)",
                        (kind.value, *_values(counters)),
                    )
                self._database.execute("DELETE FROM usage WHERE incarnation = ?", (incarnation,))
                self._database.execute("INSERT INTO closed (incarnation) VALUES (?)", (incarnation,))
                self._database.execute(
                    "DELETE FROM closed WHERE id <= (SELECT max(id) FROM closed) - ?",
                    (_CLOSED_KEPT,),
                )
        self._unwritten.clear()
        return self.totals()

    def totals(self) -> Totals:
        """All committed work.

        Raises:
            LedgerError: the file cannot be read.
        """
        rows = self._database.rows(f"{_SELECT} FROM usage UNION ALL {_SELECT} FROM folded")
        return _totals(rows)

    def _hold(self, news: Iterable[News]) -> None:
        news = tuple(news)
        for item in news:
            require_plausible(*item)
        for incarnation, handler, usage in news:
            known = self._unwritten.get((incarnation, handler))
            self._unwritten[incarnation, handler] = usage if known is None else later_usage(known, usage)

    def _write(self) -> None:
        closed = {incarnation for incarnation, _ in self._unwritten if self._is_closed(incarnation)}
        for (incarnation, handler), usage in self._unwritten.items():
            if incarnation in closed:
                continue
            for kind, counters in _by_kind(usage):
                if counters != Counters():
                    self._database.execute(_MERGE, (incarnation, handler, kind.value, *_values(counters)))

    def _is_closed(self, incarnation: str) -> bool:
        return bool(self._database.rows("SELECT 1 FROM closed WHERE incarnation = ?", (incarnation,)))

    def _folded(self) -> Totals:
        return _totals(self._database.rows(f"{_SELECT} FROM folded"))


_SELECT = "SELECT kind, requests, steps, tokens, service_us"
_MERGE = """
    INSERT INTO usage (incarnation, handler, kind, requests, steps, tokens, service_us) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (incarnation, handler, kind) DO UPDATE SET
        requests = max(requests, excluded.requests), steps = max(steps, excluded.steps),
        tokens = max(tokens, excluded.tokens), service_us = max(service_us, excluded.service_us)
"""


def _by_kind(usage: Usage | Totals) -> tuple[tuple[Kind, Counters], ...]:
    return ((Kind.INFERENCE, usage.inference), (Kind.FORWARD, usage.forward), (Kind.BACKWARD, usage.backward))


def _values(counters: Counters) -> tuple[int, int, int, int]:
    return (counters.requests, counters.steps, counters.tokens, counters.service_us)


def _totals(rows: list[Row]) -> Totals:
    return total(_alone(row) for row in rows)


def _alone(row: Row) -> Totals:
    counters = Counters(row.integer(1), row.integer(2), row.integer(3), row.integer(4))
    kind = row.text(0)
    return Totals(
        inference=counters if kind == Kind.INFERENCE else Counters(),
        forward=counters if kind == Kind.FORWARD else Counters(),
        backward=counters if kind == Kind.BACKWARD else Counters(),
    )
