"""What can go wrong with the ledger, told apart by what the caller can do."""

from __future__ import annotations

from plumised.errors import OperatorError, PlumisedError


class LedgerError(PlumisedError):
    """The ledger did not do what was asked, and nothing of it was written."""

    code = "ledger"


class LedgerUnavailableError(LedgerError):
    """The file cannot be read or written for the moment: try again later with backoff."""

    code = "ledger-unavailable"


class LedgerFullError(LedgerUnavailableError):
    """The disk, or its quota, has no room left."""

    code = "ledger-disk-full"


class LedgerDamagedError(LedgerError):
    """The file's content is damaged. Opening it again sets it aside and starts an empty one."""

    code = "ledger-damaged"


class LedgerBusyError(LedgerError):
    """Too many calls wait for the writer, or it did not answer in time: the disk is too slow."""

    code = "ledger-busy"


class ImplausibleUsageError(LedgerError):
    """Counters outside of what any machine can reach: a bug or an engine that is not ours. Do not repeat."""

    code = "ledger-implausible-usage"


class StaleReportError(LedgerError):
    """The report that a caller wants to settle is not the one in flight: a bug of the caller."""

    code = "ledger-stale-report"


class LedgerInUseError(OperatorError):
    """Another process has the ledger open."""

    code = "ledger-in-use"


class LedgerTooNewError(OperatorError):
    """The file was written by a later version."""

    code = "ledger-too-new"


class LedgerForeignError(OperatorError):
    """The file is a database, but no ledger."""

    code = "ledger-foreign"


class LedgerForbiddenError(OperatorError):
    """The state directory cannot be used: it is missing, not ours, or read-only."""

    code = "ledger-forbidden"
