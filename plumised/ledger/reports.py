"""Reports: signed timestamps, the one in flight, the last accepted one. All of it durable before it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.ledger.errors import StaleReportError
from plumised.ledger.records import AcceptedReport, Account, Figures, ReportBooks, ReportInFlight

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
            return ReportBooks(
                totals=self._usage.totals(),
                accepted=self._accepted(),
                in_flight=self._in_flight(),
                last_signed=self._last_signed(),
                proofs_waiting=self._proofs.count_waiting(),
            )

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
        account = report.account
        with self._database.transaction(durable=True):
            if self._in_flight() is not None:
                raise StaleReportError(
                    "a second report was started before the first was settled",
                    "report this as a bug",
                )
            self._database.execute(
                "INSERT INTO in_flight (id, agent, url, dialect, timestamp, body, base_tokens, base_requests,"
                " base_service_us, covered_tokens, covered_requests, covered_service_us)"
                " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    account.agent,
                    account.url,
                    account.dialect,
                    report.timestamp,
                    report.body,
                    *_columns(report.base),
                    *_columns(report.covered),
                ),
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
            account, before = report.account, self._accepted()
            accepted = AcceptedReport(
                account=account,
                timestamp=timestamp,
                at=at,
                base=report.base,
                covered=report.covered,
                count=before.count + 1 if before else 1,
            )
            self._database.execute(
                "INSERT OR REPLACE INTO accepted (id, agent, url, dialect, timestamp, at, count, base_tokens,"
                " base_requests, base_service_us, covered_tokens, covered_requests, covered_service_us)"
                " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    account.agent,
                    account.url,
                    account.dialect,
                    timestamp,
                    at,
                    accepted.count,
                    *_columns(accepted.base),
                    *_columns(accepted.covered),
                ),
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
            "SELECT agent, url, dialect, timestamp, body, base_tokens, base_requests, base_service_us,"
            " covered_tokens, covered_requests, covered_service_us FROM in_flight",
        )
        if not rows:
            return None
        row = rows[0]
        return ReportInFlight(
            account=_account(row),
            timestamp=row.integer(3),
            body=row.text(4),
            base=_figures(row, 5),
            covered=_figures(row, 8),
            proofs=self._proofs.carried(),
        )

    def _accepted(self) -> AcceptedReport | None:
        rows = self._database.rows(
            "SELECT agent, url, dialect, timestamp, at, count, base_tokens, base_requests, base_service_us,"
            " covered_tokens, covered_requests, covered_service_us FROM accepted",
        )
        if not rows:
            return None
        row = rows[0]
        return AcceptedReport(
            account=_account(row),
            timestamp=row.integer(3),
            at=row.real(4),
            base=_figures(row, 6),
            covered=_figures(row, 9),
            count=row.integer(5),
        )

    def _last_signed(self) -> int:
        rows = self._database.rows("SELECT timestamp FROM signed")
        return rows[0].integer(0) if rows else 0

    def _set_last_signed(self, timestamp: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO signed (id, timestamp) VALUES (1, ?)", (timestamp,))


def _account(row: Row) -> Account:
    return Account(agent=row.text(0), url=row.text(1), dialect=row.text(2))


def _columns(figures: Figures) -> tuple[int, int, int]:
    return (figures.tokens, figures.requests, figures.service_us)


def _figures(row: Row, column: int) -> Figures:
    return Figures(row.integer(column), row.integer(column + 1), row.integer(column + 2))
