"""The outbox of proofs does not grow without bound."""

from pathlib import Path

import pytest

from plumised.ledger import Proof
from plumised.ledger.database import Database
from plumised.ledger.proofs import ProofTable
from plumised.ledger.schema import migrate

HASH = "0x" + "ab" * 32


def proof(number: int) -> Proof:
    return Proof(f"request-{number}", HASH, HASH, HASH, token_count=number + 1)


def test_where_too_many_proofs_wait_the_oldest_are_given_up_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ledger.sqlite"
    database = Database(path)
    migrate(database, path)
    proofs = ProofTable(database, waiting_kept=3)
    proofs.add([proof(0), proof(1)])
    proofs.carry([proofs.waiting(1)[0].id])
    proofs.add([proof(2), proof(3)])
    assert caplog.records == []
    proofs.add([proof(4)])
    assert [stored.proof for stored in proofs.waiting(9)] == [proof(2), proof(3), proof(4)]
    assert "1 proofs are given up" in caplog.text
    assert len(proofs.carried()) == 1
    database.close()
