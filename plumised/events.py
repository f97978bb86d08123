"""What a log record says to programs, beside its words: a fixed vocabulary, described in docs/logs.md.

A record that matters carries it as `extra=told(LogEvent.…, …)`. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging

_ATTRIBUTE: Final = "plumise"


class LogEvent(StrEnum):
    """What happened. The names do not change between versions."""

    DAEMON_STARTING = "daemon-starting"
    WALLET_OPENED = "wallet-opened"
    DAEMON_READY = "daemon-ready"
    DAEMON_STOPPING = "daemon-stopping"
    DAEMON_STOPPED = "daemon-stopped"
    COMMAND_FAILED = "command-failed"
    CONFIG_APPLIED = "config-applied"
    CONFIG_REFUSED = "config-refused"
    PART_FAILED = "part-failed"
    ENGINE_STARTING = "engine-starting"
    ENGINE_SPAWNED = "engine-spawned"
    ENGINE_SERVING = "engine-serving"
    ENGINE_STOPPING = "engine-stopping"
    ENGINE_UNHEALTHY = "engine-unhealthy"
    ENGINE_FAILED = "engine-failed"
    ENGINE_IDLE = "engine-idle"
    ENGINE_SANDBOX = "engine-sandbox"
    ENGINE_OUTPUT = "engine-output"
    LEDGER_TROUBLE = "ledger-trouble"
    LEDGER_RECOVERED = "ledger-recovered"
    REPORT_ACCEPTED = "report-accepted"
    REPORT_FAILED = "report-failed"
    REPORTS_RECOVERED = "reports-recovered"
    ANNOUNCED = "announced"
    ANNOUNCEMENT_FAILED = "announcement-failed"
    REGISTERING = "registering"
    REGISTERED = "registered"
    HEARTBEAT_CONFIRMED = "heartbeat-confirmed"
    HEARTBEAT_MISSED = "heartbeat-missed"
    REWARD_CLAIMED = "reward-claimed"
    PROOF_VERIFIED = "proof-verified"
    TRANSACTION_REPLACED = "transaction-replaced"
    TRANSACTION_ENDED = "transaction-ended"
    CHAIN_TROUBLE = "chain-trouble"
    CHAIN_RECOVERED = "chain-recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event. What does not belong to it is None.

    Attributes:
        event: what happened.
        reason: why, a code of docs/reasons.md.
        agent: address of the wallet.
        incarnation: of the engine.
        engine_pid: of the engine's main process.
        keys: of node.toml, dotted, with spaces between them.
        retry_s: seconds until the node tries again.
        tokens: that the Oracle has booked in all.
        requests: that it has booked in all.
        purpose: of a transaction.
        nonce: of a transaction.
        transaction: its hash.
    """

    event: LogEvent
    reason: str | None = None
    agent: str | None = None
    incarnation: str | None = None
    engine_pid: int | None = None
    keys: str | None = None
    retry_s: float | None = None
    tokens: int | None = None
    requests: int | None = None
    purpose: str | None = None
    nonce: int | None = None
    transaction: str | None = None

    def fields(self) -> dict[str, str]:
        """What is told, by name, as text."""
        found = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {
            name: f"{value:.1f}" if isinstance(value, float) else str(value)
            for name, value in found
            if value is not None
        }


def told(  # noqa: PLR0913 -- one keyword for each field of the vocabulary
    event: LogEvent,
    *,
    reason: str | None = None,
    agent: str | None = None,
    incarnation: str | None = None,
    engine_pid: int | None = None,
    keys: tuple[str, ...] = (),
    retry_s: float | None = None,
    tokens: int | None = None,
    requests: int | None = None,
    purpose: str | None = None,
    nonce: int | None = None,
    transaction: str | None = None,
) -> dict[str, Told]:
    """The `extra` of a log record that tells an event; `Told` says what the arguments are."""
    made = Told(
        event=event,
        reason=reason,
        agent=agent,
        incarnation=incarnation,
        engine_pid=engine_pid,
        keys=" ".join(keys) or None,
        retry_s=retry_s,
        tokens=tokens,
        requests=requests,
        purpose=purpose,
        nonce=nonce,
        transaction=transaction,
    )
    return {_ATTRIBUTE: made}


def told_by(record: logging.LogRecord) -> Told | None:
    """What a record tells to programs, if anything."""
    found = getattr(record, _ATTRIBUTE, None)
    return found if isinstance(found, Told) else None
