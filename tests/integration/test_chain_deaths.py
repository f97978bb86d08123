"""A process is killed at any step of a transaction's life: the next one sends nothing anew and doubles no nonce."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from plumised.chain.addresses import REGISTER_AGENT
from plumised.ledger.thread import LedgerThread
from tests.devnet.chain import DevChain, MiningMode
from tests.devnet.client.process import ROOT
from tests.integration.chain_world import AGENT, PLM

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.ledger.records import StoredTransaction

PATIENCE_S = 60.0
OTHER_BASE_FEE = 6_000_000
"""In the second life: what is signed anew pays another fee and so has another hash."""

# The saves of a transaction that is mined at once: signed, mined. Of one that is not: signed, replaced.
MINED_AT_ONCE = [
    *(("before", "save", 1), ("after", "save", 1), ("before", "send", 1), ("after", "send", 1)),
    *(("before", "receipt", 1), ("after", "receipt", 1), ("before", "save", 2), ("after", "save", 2)),
    *(("after", "save", 3), ("after", "send", 2)),
]
REPLACED = [("before", "save", 2), ("after", "save", 2), ("before", "send", 2), ("after", "send", 2)]


async def life(chain: DevChain, directory: Path, heartbeats: int, *death: str | int) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.integration.chain_process", chain.url, str(directory), str(heartbeats)),
        *map(str, death),
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stored(directory: Path) -> tuple[StoredTransaction, ...]:
    async with await LedgerThread.open(directory / "ledger.db", time.time) as ledger:
        return await ledger.recent_transactions(100)


async def expect_order(chain: DevChain, directory: Path, before: tuple[StoredTransaction, ...]) -> None:
    """What must hold once a second life has come to its end."""
    mined = await chain.admin.transactions(AGENT)
    assert [each.nonce for each in mined] == list(range(len(mined)))
    assert all(each.succeeded for each in mined)
    assert [each.to for each in mined].count(REGISTER_AGENT) == 1
    assert not await chain.admin.pool()
    after = await stored(directory)
    assert not {each.nonce for each in after if each.state.open} & {each.nonce for each in before}
    known = {attempt.hash for each in after for attempt in each.attempts}
    assert {each.hash for each in mined} <= known
    for signed in before:
        at_its_nonce = next(each.hash for each in mined if each.nonce == signed.nonce)
        assert at_its_nonce in {attempt.hash for attempt in signed.attempts}


@pytest.mark.parametrize("death", MINED_AT_ONCE, ids=lambda death: "-".join(map(str, death)))
async def test_nothing_is_sent_anew_after_a_death(tmp_path: Path, death: tuple[str, str, int]) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=5_000_001) as chain:
        assert await life(chain, tmp_path, 3, *death) == -signal.SIGKILL
        before = await stored(tmp_path)
        await chain.admin.set_fees(base_fee=OTHER_BASE_FEE)

        assert await life(chain, tmp_path, 2) == 0

        await expect_order(chain, tmp_path, before)


@pytest.mark.parametrize("death", REPLACED, ids=lambda death: "-".join(map(str, death)))
async def test_nothing_is_sent_anew_after_a_death_around_a_replacement(
    tmp_path: Path, death: tuple[str, str, int]
) -> None:
    async with DevChain(funds={AGENT: PLM}, base_fee=5_000_001, mining=MiningMode.MANUAL) as chain:
        assert await life(chain, tmp_path, 3, *death) == -signal.SIGKILL
        before = await stored(tmp_path)
        await chain.admin.set_mining(MiningMode.INSTANT)

        assert await life(chain, tmp_path, 2) == 0

        await expect_order(chain, tmp_path, before)
