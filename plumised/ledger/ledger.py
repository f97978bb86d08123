"""The ledger: everything that the node must not forget, in one file, for one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.ledger.facts import FactTable
from plumised.ledger.opening import open_ledger
from plumised.ledger.proofs import ProofTable
from plumised.ledger.reports import ReportTable
from plumised.ledger.transactions import TransactionTable
from plumised.ledger.usage import UsageTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Ledger:
    """The open file. Used from the thread that opened it; `LedgerThread` is its face for asyncio.

    Attributes:
        set_aside: where a damaged file was put at opening, or None.
        usage: work served.
        reports: what was and is to be reported.
        proofs: the outbox of proofs.
        transactions: what was signed for the chain.
        facts: other things worth remembering.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Open the ledger at `path`, made if it is missing.

        Args:
            path: of the database file; its directory must exist and be writable.
            clock: wall clock, seconds since the epoch; names the file that damage is set aside to.

        Raises:
            OperatorError: in use by another process, from a later version, not a ledger, or a forbidden directory.
            LedgerError: the disk refuses at the moment.
        """
        opened = open_ledger(path, clock)
        self._database = opened.database
        self._lock = opened.lock
        self.set_aside = opened.set_aside
        self.usage = UsageTable(self._database)
        self.proofs = ProofTable(self._database)
        self.reports = ReportTable(self._database, self.usage, self.proofs)
        self.transactions = TransactionTable(self._database)
        self.facts = FactTable(self._database)

    def close(self) -> None:
        """Close the file and let the next process in. Nothing may be called after it."""
        try:
            self._database.close()
        finally:
            self._lock.release()
