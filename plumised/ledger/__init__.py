"""The ledger: what the node must not forget, in SQLite. docs/ledger.md describes the file."""

from plumised.ledger.errors import (
    ImplausibleUsageError,
    LedgerBusyError,
    LedgerDamagedError,
    LedgerError,
    LedgerForbiddenError,
    LedgerForeignError,
    LedgerFullError,
    LedgerInUseError,
    LedgerTooNewError,
    LedgerUnavailableError,
    StaleReportError,
)
from plumised.ledger.ledger import Ledger
from plumised.ledger.records import (
    AcceptedReport,
    Figures,
    JsonValue,
    LedgerHealth,
    Proof,
    ReportBooks,
    ReportInFlight,
    SignedAttempt,
    StoredProof,
    StoredTransaction,
    Totals,
    TransactionState,
)
from plumised.ledger.thread import LedgerThread

__all__ = [
    "AcceptedReport",
    "Figures",
    "ImplausibleUsageError",
    "JsonValue",
    "Ledger",
    "LedgerBusyError",
    "LedgerDamagedError",
    "LedgerError",
    "LedgerForbiddenError",
    "LedgerForeignError",
    "LedgerFullError",
    "LedgerHealth",
    "LedgerInUseError",
    "LedgerThread",
    "LedgerTooNewError",
    "LedgerUnavailableError",
    "Proof",
    "ReportBooks",
    "ReportInFlight",
    "SignedAttempt",
    "StaleReportError",
    "StoredProof",
    "StoredTransaction",
    "Totals",
    "TransactionState",
]
