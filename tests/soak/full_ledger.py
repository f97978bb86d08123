"""Fills a ledger with delivered proofs, as after a long time; runs on the node's host while no daemon does.

python3 - LEDGER NUMBER < full_ledger.py
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from typing import Final

_FILL: Final = """
INSERT INTO proofs (key, model_hash, input_hash, output_hash, token_count, state)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
SELECT lower(hex(randomblob(16))) || '/0/' || i, '0x' || lower(hex(randomblob(32))),
    '0x' || lower(hex(randomblob(32))), '0x' || lower(hex(randomblob(32))), 59, 'delivered' FROM n
"""

if __name__ == "__main__":
    with contextlib.closing(sqlite3.connect(sys.argv[1])) as ledger, ledger:
        ledger.execute(_FILL, (int(sys.argv[2]),))
