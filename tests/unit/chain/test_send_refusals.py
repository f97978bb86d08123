from __future__ import annotations

import pytest

from plumised.chain.send_refusals import SendRefusal, classify


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("already known", SendRefusal.ALREADY_KNOWN),
        ("Transaction with the same hash was already imported.", SendRefusal.ALREADY_KNOWN),
        ("transaction already imported", SendRefusal.ALREADY_KNOWN),
        ("known transaction: 0xabc", SendRefusal.ALREADY_KNOWN),
        ("nonce too low: next nonce 5, tx nonce 4", SendRefusal.NONCE_TOO_LOW),
        ("Nonce too low", SendRefusal.NONCE_TOO_LOW),
        ("OldNonce", SendRefusal.NONCE_TOO_LOW),
        ("nonce too high", SendRefusal.NONCE_TOO_HIGH),
        ("replacement transaction underpriced", SendRefusal.REPLACEMENT_UNDERPRICED),
        ("transaction underpriced: gas tip cap 0, minimum needed 1", SendRefusal.UNDERPRICED),
        ("max fee per gas less than block base fee", SendRefusal.UNDERPRICED),
        ("FeeTooLow, MaxFeePerGas too low", SendRefusal.UNDERPRICED),
        ("insufficient funds for gas * price + value: balance 0", SendRefusal.INSUFFICIENT_FUNDS),
        ("execution reverted: no", SendRefusal.WOULD_FAIL),
        ("the node is on fire", SendRefusal.OTHER),
        ("", SendRefusal.OTHER),
    ],
)
def test_node_says(text: str, meaning: SendRefusal) -> None:
    assert classify(text) is meaning
