"""A writer that is killed with SIGKILL at any moment loses nothing that it was told is committed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ledger.histories import opened

WRITER = """
import pathlib, sys, time
from tests.unit.ledger.histories import inference, opened, report
ledger = opened(pathlib.Path(sys.argv[1]))
number = ledger.usage.totals().tokens
while True:
    number += 1
    ledger.usage.record([("life", "handler-0", inference(number))])
    stamp = ledger.reports.next_timestamp(0)
    books = ledger.reports.books()
    if books.in_flight is not None:
        ledger.reports.drop(books.in_flight.timestamp)
    ledger.reports.start(report(stamp, tokens=number))
    ledger.reports.accept(stamp, at=1.0)
    print(number, stamp, flush=True)
"""


def test_sigkill_in_mid_write_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    for lines in (1, 7, 40, 3, 90):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        told += writer.stdout.readlines()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        whole = [line for line in told if line.endswith("\n") and len(line.split()) == 2]
        number, stamp = (int(word) for word in whole[-1].split())
        ledger = opened(tmp_path)
        books = ledger.reports.books()
        assert ledger.set_aside is None
        assert books.totals.tokens in {number, number + 1}
        assert books.last_signed in {stamp, stamp + 1}
        assert books.accepted is not None
        assert books.accepted.covered.tokens in {number, number + 1}
        ledger.close()


@pytest.mark.parametrize("limit_kib", [80, 160])
def test_a_process_that_may_write_no_more_tells_so_and_goes_on(tmp_path: Path, limit_kib: int) -> None:
    program = f"""
import pathlib, resource, sys
from plumised.ledger import LedgerUnavailableError
from tests.unit.ledger.histories import inference, opened
ledger = opened(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_kib} * 1024, resource.RLIM_INFINITY))
number = 0
while True:
    number += 1
    try:
        ledger.usage.record([(f"life-{{number}}" * 100, "handler-0", inference(1))])
    except LedgerUnavailableError:
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(number, ledger.usage.record([]).tokens)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert ended.returncode == 0, ended.stderr
    number, tokens = (int(word) for word in ended.stdout.split())
    assert tokens == number > 1
