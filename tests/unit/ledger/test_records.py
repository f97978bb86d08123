"""Transactions and facts come back as they were stored."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumised.ledger import JsonValue, LedgerDamagedError, SignedAttempt, StoredTransaction, TransactionState
from tests.unit.ledger.histories import opened

words = st.integers(0, 2**256 - 1)
times = st.floats(0, 2**33)
attempts = st.builds(SignedAttempt, st.just("0x" + "cd" * 32), st.binary(max_size=300), words, st.none() | words, times)
transactions = st.builds(
    StoredTransaction,
    chain_id=st.integers(1, 2**53),
    sender=st.just("0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"),
    nonce=st.integers(0, 2**63 - 1),
    purpose=st.sampled_from(["register", "heartbeat", "claim"]),
    to=st.just("0x0000000000000000000000000000000000000021"),
    data=st.binary(max_size=200),
    value=words,
    gas=st.integers(21_000, 30_000_000),
    state=st.sampled_from(TransactionState),
    attempts=st.lists(attempts, min_size=1, max_size=3).map(tuple),
    block_number=st.none() | st.integers(0, 2**53),
    mined_hash=st.none() | st.just("0x" + "cd" * 32),
    gas_used=st.none() | st.integers(0, 2**53),
    effective_gas_price=st.none() | words,
    detail=st.text(max_size=50),
    created_at=times,
    updated_at=times,
    fee_cap=st.none() | words,
)
example = StoredTransaction(
    chain_id=41956,
    sender="0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
    nonce=0,
    purpose="heartbeat",
    to="0x0000000000000000000000000000000000000022",
    data=b"",
    value=0,
    gas=100_000,
    state=TransactionState.SIGNED,
    attempts=(SignedAttempt("0x00", b"\x02", 1, None, 0.0),),
    block_number=None,
    mined_hash=None,
    gas_used=None,
    effective_gas_price=None,
    detail="",
    created_at=0.0,
    updated_at=0.0,
)
json_values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(transactions)
def test_a_transaction_comes_back_as_it_was_stored(transaction: StoredTransaction) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ledger = opened(Path(directory))
        ledger.transactions.save(transaction)
        assert ledger.transactions.recent(5) == (transaction,)
        unfinished = ledger.transactions.unfinished(transaction.chain_id, transaction.sender)
        assert unfinished == ((transaction,) if transaction.state.open else ())
        ledger.close()


def test_saving_again_replaces_what_is_known_of_a_nonce(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.transactions.save(example)
    mined = replace(example, state=TransactionState.MINED, block_number=7, updated_at=3.0)
    ledger.transactions.save(mined)
    assert ledger.transactions.recent(5) == (mined,)
    ledger.close()


def test_unfinished_transactions_are_those_of_one_sender_on_one_chain_lowest_nonce_first(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for transaction in (
        replace(example, nonce=2),
        replace(example, nonce=1),
        replace(example, nonce=0, chain_id=1),
        replace(example, nonce=0, sender="0x0000000000000000000000000000000000000001"),
        replace(example, nonce=0, state=TransactionState.MINED),
    ):
        ledger.transactions.save(transaction)
    assert [found.nonce for found in ledger.transactions.unfinished(example.chain_id, example.sender)] == [1, 2]
    ledger.close()


def test_ended_transactions_are_kept_up_to_a_bound_and_open_ones_always(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.transactions.save(replace(example, nonce=5000))
    for nonce in range(1010):
        ledger.transactions.save(
            replace(example, nonce=nonce, state=TransactionState.MINED, updated_at=float(nonce)),
        )
    kept = [found.nonce for found in ledger.transactions.recent(2000)]
    assert len(kept) == 1001
    assert 5000 in kept
    assert 9 not in kept
    ledger.close()


@settings(max_examples=30, deadline=None)
@given(json_values)
def test_a_fact_comes_back_as_it_was_set(value: JsonValue) -> None:
    with tempfile.TemporaryDirectory() as directory:
        ledger = opened(Path(directory))
        ledger.facts.set("chain.something", value)
        assert ledger.facts.get("chain.something") == value
        ledger.close()


def test_an_unknown_or_forgotten_fact_is_none(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.facts.set("a", 1)
    ledger.facts.set("a", None)
    assert ledger.facts.get("a") is None
    assert ledger.facts.get("b") is None
    ledger.close()


def test_a_number_that_json_cannot_say_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        ledger.facts.set("a", float("nan"))
    ledger.close()


def test_a_stored_transaction_that_makes_no_sense_is_told_as_damage(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.transactions.save(example)
    ledger._database.execute("UPDATE transactions SET record = '{}'")
    with pytest.raises(LedgerDamagedError, match="nonce 0"):
        ledger.transactions.recent(1)
    ledger.close()
