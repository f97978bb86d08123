"""What the ledger keeps, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from plumised.ipc.messages import Counters

if TYPE_CHECKING:
    from pathlib import Path

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""A fact: whatever JSON can say. Integers beyond 64 bit are kept exactly."""


@dataclass(frozen=True, slots=True)
class Totals:
    """All work that the node's engines ever served, as committed, per kind of request."""

    inference: Counters = field(default_factory=Counters)
    forward: Counters = field(default_factory=Counters)
    backward: Counters = field(default_factory=Counters)

    @property
    def requests(self) -> int:
        """RPCs served, of all kinds."""
        return self.inference.requests + self.forward.requests + self.backward.requests

    @property
    def steps(self) -> int:
        """Passes through the span, of all kinds."""
        return self.inference.steps + self.forward.steps + self.backward.steps

    @property
    def tokens(self) -> int:
        """Batch size times sequence length, summed over the steps of all kinds."""
        return self.inference.tokens + self.forward.tokens + self.backward.tokens

    @property
    def service_us(self) -> int:
        """Microseconds of service, summed over the steps of all kinds."""
        return self.inference.service_us + self.forward.service_us + self.backward.service_us


@dataclass(frozen=True, slots=True)
class Figures:
    """The part of the totals that a report speaks of. Also the point from which a report counts.

    Attributes:
        tokens: of all kinds.
        requests: of all kinds.
        service_us: microseconds of service.
    """

    tokens: int = 0
    requests: int = 0
    service_us: int = 0

    @staticmethod
    def of(totals: Totals) -> Figures:
        """What there is to report when everything up to `totals` is."""
        return Figures(tokens=totals.tokens, requests=totals.requests, service_us=totals.service_us)


@dataclass(frozen=True, slots=True)
class Account:
    """Where an Oracle keeps the counters that a report adds to. Another account counts from elsewhere.

    Attributes:
        agent: checksummed address.
        url: of the Oracle.
        dialect: in which the report is written.
    """

    agent: str
    url: str
    dialect: str


@dataclass(frozen=True, slots=True)
class ReportInFlight:
    """A report that was signed and perhaps sent, and whose fate is not settled.

    Attributes:
        account: whose and where.
        timestamp: the signed one, seconds since the epoch.
        body: exactly what is sent, UTF-8 JSON.
        base: where its figures count from; becomes the base once it is accepted.
        covered: totals that count as reported once it is accepted; absolute, not counted from the base.
        proofs: ids of the proofs that it carries.
    """

    account: Account
    timestamp: int
    body: str
    base: Figures
    covered: Figures
    proofs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class AcceptedReport:
    """The last report that the Oracle is known to have accepted.

    Attributes:
        account: whose and where.
        timestamp: the signed one.
        at: wall clock when its acceptance became known, seconds since the epoch.
        base: where its figures counted from.
        covered: totals that it reported, absolute.
        count: accepted reports so far, this one included.
    """

    account: Account
    timestamp: int
    at: float
    base: Figures
    covered: Figures
    count: int


@dataclass(frozen=True, slots=True)
class ReportBooks:
    """All that a report is planned from, read in one transaction.

    Attributes:
        totals: the committed work.
        accepted: None before the first acceptance that this ledger knows of.
        in_flight: None when there is nothing unsettled.
        last_signed: the greatest timestamp that was ever given out; 0 before the first.
        proofs_waiting: how many proofs no report carries.
    """

    totals: Totals
    accepted: AcceptedReport | None
    in_flight: ReportInFlight | None
    last_signed: int
    proofs_waiting: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof of one served request says, in the Oracle's terms.

    Attributes:
        key: names the request; adding the same key again changes nothing.
        model_hash: 0x and 64 hexadecimal digits, as the others.
        input_hash: of the input data.
        output_hash: of the output data.
        token_count: at least 1.
    """

    key: str
    model_hash: str
    input_hash: str
    output_hash: str
    token_count: int


@dataclass(frozen=True, slots=True)
class StoredProof:
    """A proof in the outbox.

    Attributes:
        id: ascending in the order of arrival.
        proof: what it says.
    """

    id: int
    proof: Proof


class TransactionState(StrEnum):
    """Where a transaction stands between its signing and its end."""

    SIGNED = "signed"
    """Signed and stored; a node may or may not have taken it."""
    PENDING = "pending"
    """At least one node said that it took it."""
    MINED = "mined"
    """Receipt with status 1."""
    REVERTED = "reverted"
    """Receipt with status 0."""
    REPLACED = "replaced"
    """The nonce was used by a transaction that is none of its attempts."""
    DROPPED = "dropped"
    """Given up before it was mined; its nonce may be used again."""

    @property
    def open(self) -> bool:
        """Whether it can still change."""
        return self in {TransactionState.SIGNED, TransactionState.PENDING}


@dataclass(frozen=True, slots=True)
class SignedAttempt:
    """One signed form of a transaction. Replacements at the same nonce are further attempts.

    Attributes:
        hash: 0x and 64 hexadecimal digits.
        raw: the signed bytes, to be broadcast again unchanged.
        max_fee_per_gas: wei; the gas price of a legacy transaction.
        max_priority_fee_per_gas: wei; None for a legacy transaction.
        signed_at: wall clock, seconds since the epoch.
    """

    hash: str
    raw: bytes
    max_fee_per_gas: int
    max_priority_fee_per_gas: int | None
    signed_at: float


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A transaction from its signing to its receipt. (chain_id, sender, nonce) names it.

    Attributes:
        chain_id: of the chain that it is signed for.
        sender: checksummed address.
        nonce: of the sender.
        purpose: what it is for: `register`, `heartbeat`, `claim`, …
        to: checksummed address.
        data: the calldata.
        value: wei.
        gas: the gas limit.
        state: where it stands.
        attempts: its signed forms, oldest first, at least one.
        block_number: of the receipt, or None.
        mined_hash: hash of the attempt that was mined, or None.
        gas_used: of the receipt, or None.
        effective_gas_price: of the receipt, wei, or None.
        detail: for people: the node's last words on it.
        created_at: wall clock, seconds since the epoch.
        updated_at: wall clock, seconds since the epoch.
        fee_cap: wei per gas that none of its attempts may exceed, where that is less than the sender's own cap.
    """

    chain_id: int
    sender: str
    nonce: int
    purpose: str
    to: str
    data: bytes
    value: int
    gas: int
    state: TransactionState
    attempts: tuple[SignedAttempt, ...]
    block_number: int | None
    mined_hash: str | None
    gas_used: int | None
    effective_gas_price: int | None
    detail: str
    created_at: float
    updated_at: float
    fee_cap: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerHealth:
    """What an operator should know of the ledger.

    Attributes:
        set_aside: where the damaged file was put at opening, or None.
        unwritten: handlers whose newest counters are in memory only, because the disk refused them.
        closed: whether the ledger is closed.
    """

    set_aside: Path | None
    unwritten: int
    closed: bool
