"""The hash of a proof, against the golden vector of docs/wire-formats.md."""

from eth_utils.crypto import keccak

from plumised.chain.calldata import model_hash
from plumised.chain.proof_hash import proof_hash
from plumised.ledger import Proof

AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"


def test_the_golden_vector() -> None:
    proof = Proof(
        key="any",
        model_hash="0x" + model_hash("bigscience/bloom-560m").hex(),
        input_hash="0x" + keccak(b"hello").hex(),
        output_hash="0x" + keccak(b"world").hex(),
        token_count=1,
    )
    expected = "784af3b0ba4cd6e6f7d1fe8e06d390e8d57002b58c9274438dd1685d82f10541"
    assert proof_hash(proof, AGENT).hex() == expected
