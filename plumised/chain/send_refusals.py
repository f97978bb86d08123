"""Why a node did not take a transaction. The texts differ by client and are all that there is to go by."""

from __future__ import annotations

from enum import StrEnum


class SendRefusal(StrEnum):
    """What a refusal to take a transaction means."""

    ALREADY_KNOWN = "already-known"
    """The node has this very transaction: as good as taken."""
    NONCE_TOO_LOW = "nonce-too-low"
    """A transaction with this nonce is in a block: this one, an earlier attempt, or another program's."""
    NONCE_TOO_HIGH = "nonce-too-high"
    """Transactions of lower nonces are missing."""
    REPLACEMENT_UNDERPRICED = "replacement-underpriced"
    """Another transaction with this nonce waits, and this one does not pay enough more."""
    UNDERPRICED = "underpriced"
    """It pays less than the node or the next block asks."""
    INSUFFICIENT_FUNDS = "insufficient-funds"
    """The agent's balance does not cover gas limit times fee."""
    WOULD_FAIL = "would-fail"
    """The node tried it and it reverted."""
    OTHER = "other"
    """Anything else; the node's text is all that is known."""


_TEXTS: tuple[tuple[SendRefusal, tuple[str, ...]], ...] = (
    (
        SendRefusal.ALREADY_KNOWN,
        ("already known", "already imported", "known transaction", "alreadyknown", "already in mempool"),
    ),
    (
        SendRefusal.REPLACEMENT_UNDERPRICED,
        ("replacement transaction underpriced", "gas price too low to replace", "another transaction with same nonce"),
    ),
    (SendRefusal.NONCE_TOO_LOW, ("nonce too low", "nonce is too low", "oldnonce", "invalid transaction nonce")),
    (SendRefusal.NONCE_TOO_HIGH, ("nonce too high", "nonce gap", "gapped nonce", "nonce is too high")),
    (SendRefusal.INSUFFICIENT_FUNDS, ("insufficient funds", "insufficientfunds", "insufficient balance")),
    (
        SendRefusal.UNDERPRICED,
        (
            "underpriced",
            "fee too low",
            "feetoolow",
            "less than block base fee",
            "max fee per gas less than",
            "gas price below",
            "below current base fee",
        ),
    ),
    (SendRefusal.WOULD_FAIL, ("revert", "always failing transaction")),
)
"""Of geth, reth, erigon, nethermind, besu, openethereum and anvil. The first match decides."""


def classify(text: str) -> SendRefusal:
    """Return what a node's refusal means, from the message of its JSON-RPC error."""
    lowered = text.lower()
    for refusal, texts in _TEXTS:
        if any(words in lowered for words in texts):
            return refusal
    return SendRefusal.OTHER
