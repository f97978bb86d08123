"""Reports: signed timestamps, the one in flight, the last accepted one. All of it durable before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.ledger.errors import StaleReportError
from plumised.ledger.records import AcceptedReport, Figures, ReportBooks, ReportInFlight

if TYPE_CHECKING:
    from plumised.ledger.database import Database, Row
    from plumised.ledger.proofs import ProofTable
    from plumised.ledger.usage import UsageTable


class ReportTable:
    """The life of a report: `next_timestamp`, `start`, then `accept` or `drop`."""

    def __init__(self, database: Database, usage: UsageTable, proofs: ProofTable) -> None:
        self._database = database
        self._usage = usage
        self._proofs = proofs

    def books(self) -> ReportBooks:
        """All that planning needs, as of one moment.

        Raises:
            LedgerError: the file cannot be read.
        """
        with self._database.transaction():
            return ReportBooks(self._usage.totals(), self._accepted(), self._in_flight(), self._last_signed())

    def next_timestamp(self, now: int) -> int:
        """Give out `now`, or the second after the last one given out where that is later. Durable on return.

        Raises:
            LedgerError: none was given out.
        """
        with self._database.transaction(durable=True):
            timestamp = max(now, self._last_signed() + 1)
            self._set_last_signed(timestamp)
        return timestamp

    def skip_timestamps(self, until: int) -> None:
        """Make the next timestamp later than `until`.

        Raises:
            LedgerError: it is as before.
        """
        with self._database.transaction(durable=True):
            if until > self._last_signed():
                self._set_last_signed(until)

    def start(self, report: ReportInFlight) -> None:
        """Note a signed report before it is sent. Its proofs leave the outbox until its fate is known.

        Raises:
            StaleReportError: another one is in flight.
            LedgerError: it must not be sent.
        """
        base, covered = report.base, report.covered
        with self._database.transaction(durable=True):
            if self._in_flight() is not None:
                raise StaleReportError(
                    "a second report was started before the first was settled", "report this as a bug"
                )
            self._database.execute(
                "INSERT INTO in_flight (id, dialect, url, timestamp, body, base_tokens, base_requests, base_service_us,"
                " covered_tokens, covered_requests, covered_service_us) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (report.dialect, report.url, report.timestamp, report.body, *_columns(base), *_columns(covered)),
            )
            self._proofs.carry(report.proofs)

    def accept(self, timestamp: int, at: float) -> AcceptedReport:
        """The Oracle has booked the report in flight: its base and its totals count from here on.

        Args:
            timestamp: of the report in flight.
            at: wall clock, seconds since the epoch.

        Raises:
            StaleReportError: no report with that timestamp is in flight.
            LedgerError: it is as before.
        """
        with self._database.transaction(durable=True):
            report = self._settled(timestamp)
            before = self._accepted()
            accepted = AcceptedReport(timestamp, at, report.base, report.covered, before.count + 1 if before else 1)
            self._database.execute(
                "INSERT OR REPLACE INTO accepted (id, timestamp, at, count, base_tokens, base_requests,"
                " base_service_us, covered_tokens, covered_requests, covered_service_us)"
                " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (timestamp, at, accepted.count, *_columns(accepted.base), *_columns(accepted.covered)),
            )
            self._proofs.deliver()
        return accepted

    def drop(self, timestamp: int) -> None:
        """The Oracle has not booked the report in flight and never will. Its proofs wait again.

        Raises:
            StaleReportError: no report with that timestamp is in flight.
            LedgerError: it is as before.
        """
        with self._database.transaction(durable=True):
            self._settled(timestamp)
            self._proofs.release()

    def _settled(self, timestamp: int) -> ReportInFlight:
        report = self._in_flight()
        if report is None or report.timestamp != timestamp:
            raise StaleReportError(f"the report of {timestamp} is not the one in flight", "report this as a bug")
        self._database.execute("DELETE FROM in_flight")
        return report

    def _in_flight(self) -> ReportInFlight | None:
        rows = self._database.rows(
            "SELECT dialect, url, timestamp, body, base_tokens, base_requests, base_service_us,"
            " covered_tokens, covered_requests, covered_service_us FROM in_flight",
        )
        if not rows:
            return None
        row = rows[0]
        return ReportInFlight(
            dialect=row.text(0),
            url=row.text(1),
            timestamp=row.integer(2),
            body=row.text(3),
            base=_figures(row, 4),
            covered=_figures(row, 7),
            proofs=self._proofs.carried(),
        )

    def _accepted(self) -> AcceptedReport | None:
        rows = self._database.rows(
            "SELECT timestamp, at, count, base_tokens, base_requests, base_service_us,"
            " covered_tokens, covered_requests, covered_service_us FROM accepted",
        )
        if not rows:
            return None
        row = rows[0]
        return AcceptedReport(
            timestamp=row.integer(0),
            at=row.real(1),
            base=_figures(row, 3),
            covered=_figures(row, 6),
            count=row.integer(2),
        )

    def _last_signed(self) -> int:
        rows = self._database.rows("SELECT timestamp FROM signed")
        return rows[0].integer(0) if rows else 0

    def _set_last_signed(self, timestamp: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO signed (id, timestamp) VALUES (1, ?)", (timestamp,))


def _columns(figures: Figures) -> tuple[int, int, int]:
    return (figures.tokens, figures.requests, figures.service_us)


def _figures(row: Row, column: int) -> Figures:
    return Figures(row.integer(column), row.integer(column + 1), row.integer(column + 2))
