"""What came of the rows of the fault matrix: build/e2e/faults.json and faults.md."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.e2e.faults import ROWS
from tests.e2e.figures import DIRECTORY, sole_writer


@dataclass(frozen=True)
class Outcome:
    """What came of a row. Times are in seconds since the fault was on, and since its end; `told` are codes."""

    fault: str
    expected: str
    told: tuple[str, ...]
    noticed_after_s: float
    recovered_after_s: float
    recovered: bool
    served: dict[str, int]
    booked: dict[str, int]
    lost: int
    sessions: int
    failed_sessions: int


def keep(outcome: Outcome) -> None:
    """Put it in the place of its row, in both files."""
    with sole_writer("faults") as file:
        rows = json.loads(file.read_text())["rows"] if file.exists() else []
        by_fault = {row["fault"]: row for row in rows} | {outcome.fault: _row(outcome)}
        ordered = [by_fault[row.fault] for row in ROWS if row.fault in by_fault]
        file.write_text(json.dumps({"rows": ordered}, indent=2) + "\n")
        (DIRECTORY / "faults.md").write_text(_table(ordered))


def forget() -> None:
    """Begin anew."""
    (DIRECTORY / "faults.json").unlink(missing_ok=True)


def _row(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome) | {"served": sum(outcome.served.values()), "booked": sum(outcome.booked.values())}


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| fault | expected | told | noticed after | well again after | served | booked | lost | sessions | failed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['fault']} | {row['expected']} | {', '.join(row['told'])} |"
        f" {row['noticed_after_s']} s | {row['recovered_after_s']} s |"
        f" {row['served']} | {row['booked']} | {row['lost']} | {row['sessions']} | {row['failed_sessions']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
