"""What an operator asks of the chain's side by hand, and what came of it. Amounts are in wei."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Deed:
    """What came of something that was asked for.

    Attributes:
        done: whether it is so now; for a trial, whether it would be.
        message: what happened.
        code: why it is not so, documented in docs/reasons.md; None where it is.
        remedy: what the operator can do.
        transaction: hash, where one was sent and mined.
        amount_wei: that came in, or would.
        cost_wei: of the transaction, or the most that it would cost.
    """

    done: bool
    message: str
    code: str | None = None
    remedy: str | None = None
    transaction: str | None = None
    amount_wei: int | None = None
    cost_wei: int | None = None

    def to_json(self) -> str:
        """One JSON object; amounts are decimal strings."""
        return _json(asdict(self))


@dataclass(frozen=True, slots=True)
class RewardsAnswer:
    """What the chain says of the agent's rewards at this moment.

    Attributes:
        agent: address.
        pending_wei: what could be claimed.
        epoch: the current one; rewards lag one behind.
        contribution: the words that the RewardPool keeps of the agent.
        in_registry: whether the AgentRegistry contract has the agent; None where there is none.
        registry_active: whether it has heard of it lately.
        automatic: whether the node claims by itself.
        threshold_wei: from which reward on.
        claims: claimed since the daemon started.
        claimed_wei: what that brought.
        claim: what a claim would bring, or why there would be none.
    """

    agent: str
    pending_wei: int
    epoch: int
    contribution: tuple[int, ...]
    in_registry: bool | None
    registry_active: bool | None
    automatic: bool
    threshold_wei: int
    claims: int
    claimed_wei: int
    claim: Deed

    def to_json(self) -> str:
        """One JSON object; amounts and the words of the contribution are decimal strings."""
        document = asdict(self) | {"contribution": [str(word) for word in self.contribution]}
        return _json(document | {"claim": json.loads(self.claim.to_json())})


def _json(document: dict[str, object]) -> str:
    # Most readers of JSON round numbers of this size.
    told = {key: str(value) if key.endswith("_wei") and value is not None else value for key, value in document.items()}
    return json.dumps(told, ensure_ascii=False, indent=2) + "\n"
