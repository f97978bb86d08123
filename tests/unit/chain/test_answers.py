from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.chain import answers
from plumised.chain.answers import Block, MalformedAnswerError, Receipt
from plumised.chain.endpoint import public_name

HASH = "0x" + "ab" * 32
RECEIPT = {"transactionHash": HASH, "blockNumber": "0x10", "status": "0x1", "gasUsed": "0x5208"}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.integers(0, 2**256 - 1))
def test_quantity_is_read_back(value: int) -> None:
    assert answers.quantity(hex(value), "it") == value


@given(st.binary())
def test_data_is_read_back(value: bytes) -> None:
    assert answers.data("0x" + value.hex(), "it") == value


@given(anything)
def test_any_answer_is_either_understood_or_called_malformed(value: object) -> None:
    for read in (answers.block, answers.receipt):
        try:
            read(value)
        except MalformedAnswerError:
            continue
    for parse in (answers.quantity, answers.data, answers.truth, answers.transaction_hash):
        try:
            parse(value, "it")
        except MalformedAnswerError:
            continue


def test_block_of_a_chain_before_eip_1559_has_no_base_fee() -> None:
    assert answers.block({"number": "0x1", "timestamp": "0x2"}) == Block(1, 2, None)


def test_receipt_is_read() -> None:
    assert answers.receipt(RECEIPT | {"effectiveGasPrice": "0x7"}) == Receipt(
        hash=HASH, block_number=16, succeeded=True, gas_used=21000, gas_price=7
    )


def test_receipt_with_status_0_did_not_succeed() -> None:
    receipt = answers.receipt(RECEIPT | {"status": "0x0"})
    assert receipt is not None
    assert not receipt.succeeded


@pytest.mark.parametrize("value", [None, RECEIPT | {"blockNumber": None}])
def test_no_receipt_yet(value: object) -> None:
    assert answers.receipt(value) is None


def test_malformed_answer_is_quoted_within_bounds() -> None:
    with pytest.raises(MalformedAnswerError) as error:
        answers.quantity("x" * 10_000, "the balance")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:secret@rpc.example.org/v3/secret?key=secret", "https://rpc.example.org"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
    ],
)
def test_shown_name_of_an_endpoint_holds_no_secret(url: str, name: str) -> None:
    assert public_name(url) == name
