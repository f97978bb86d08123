"""Usage as hypothesis makes it, and other beginnings of ledger tests."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from hypothesis import strategies as st

from plumised.ipc.messages import Counters, Usage
from plumised.ledger import Account, Figures, Ledger, ReportInFlight

counts = st.integers(0, 10**12)
counters = st.builds(Counters, counts, counts, counts, counts)
usages = st.builds(Usage, counters, counters, counters)
news = st.tuples(st.sampled_from(["first", "second", "third"]), st.sampled_from(["handler-0", "handler-1"]), usages)
histories = st.lists(news, max_size=12)

ACCOUNT = Account(agent="0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F", url="http://oracle", dialect="metrics-v1")


def inference(tokens: int, requests: int = 1) -> Usage:
    return Usage(Counters(requests, requests, tokens, tokens * 10), Counters(), Counters())


def report(timestamp: int, tokens: int = 0, proofs: tuple[int, ...] = ()) -> ReportInFlight:
    return ReportInFlight(ACCOUNT, timestamp, '{"body":1}', Figures(), Figures(tokens, 1, 10), proofs)


def opened(directory: Path) -> Ledger:
    return Ledger(directory / "ledger.sqlite", time.time)


def damage_beneath(path: Path) -> None:
    """Spoil a file that somebody has open, as a broken disk does."""
    with closing(sqlite3.connect(path)) as other:
        # Another writer makes the first one forget the pages that it has in memory.
        other.executescript("CREATE TABLE another (a); DROP TABLE another; PRAGMA wal_checkpoint(TRUNCATE)")
        (page_size,) = other.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek(page_size)
        file.write(b"\xa5" * (path.stat().st_size - page_size))
