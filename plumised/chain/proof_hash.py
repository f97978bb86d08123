"""The hash by which the chain names a proof. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eth_utils.crypto import keccak

from plumised.chain.calldata import address_word

if TYPE_CHECKING:
    from plumised.ledger.records import Proof


def proof_hash(proof: Proof, agent: str) -> bytes:
    """keccak-256 over model, input and output hash and the agent as a word. It is not sent to the Oracle.

    Args:
        proof: of one request.
        agent: address of the node that served it.
    """
    hashes = (proof.model_hash, proof.input_hash, proof.output_hash)
    words = [bytes.fromhex(each.removeprefix("0x")) for each in hashes]
    return bytes(keccak(b"".join(words) + address_word(agent)))
