"""What the admin interface speaks: requests and answers, the same types on both of its ends.

Addresses are given in any case and come back with EIP-55 checksums; hashes are 0x-prefixed; amounts are wei.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from eth_utils.address import is_address, to_checksum_address
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from tests.devnet.chain.mempool import BelowBaseFee  # noqa: TC001 - pydantic reads the annotation
from tests.devnet.chain.words import WORD, MalformedWordError, as_name


def _checksummed(text: str) -> str:
    if not is_address(text):
        raise ValueError("not an address")
    return str(to_checksum_address(text))


Address = Annotated[str, AfterValidator(_checksummed)]
Wei = Annotated[int, Field(ge=0, lt=2**256)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FaultMode(StrEnum):
    """What the RPC does wrong."""

    DELAY = "delay"
    """Answers `delay_s` later."""
    HANG = "hang"
    """Takes the request and does nothing with it until the fault is cleared, then closes the connection."""
    STATUS_500 = "500"
    STATUS_429 = "429"
    GARBAGE = "garbage"
    """Answers 200 with something that is not JSON."""
    DROP = "drop"
    """Resets the connection without doing what was asked."""
    LOSE_REPLY = "lose_reply"
    """Does what was asked, then resets the connection instead of answering."""
    REFUSE = "refuse"
    """Nothing listens on the port, open connections are reset. Needs no request to act, so it takes no `count`."""
    ERROR = "error"
    """Answers a JSON-RPC error with `code` and `message` without doing what was asked."""
    ANSWER = "answer"
    """Answers `result` without doing what was asked: a node that lies."""
    WRONG_CHAIN_ID = "wrong_chain_id"
    """eth_chainId and net_version say `chain_id`; transactions are still checked against the true one."""
    STALE = "stale"
    """The node is stuck at the block that was the head `blocks_behind` blocks ago; it still takes transactions."""
    NO_AGENT_METHODS = "no_agent_methods"
    """A plain EVM node: agent_* methods do not exist (-32601)."""


class Fault(_Frozen):
    """A fault to switch on.

    Attributes:
        methods: only requests that call one of these are struck; empty for all.
        count: so many requests are struck, then the fault clears itself; None for no end.
        for_s: the fault clears itself after so many seconds; None for no end.
    """

    mode: FaultMode
    methods: tuple[str, ...] = ()
    count: Annotated[int, Field(ge=1)] | None = None
    for_s: Annotated[float, Field(gt=0)] | None = None
    delay_s: Annotated[float, Field(ge=0)] = 1.0
    code: int = -32000
    message: str = "internal error"
    result: JsonValue = None
    chain_id: int = 1
    blocks_behind: Annotated[int, Field(ge=0)] = 0


class MiningMode(StrEnum):
    """When blocks come: as soon as there is something to put into one, on a timer, or when a test asks for one."""

    INSTANT = "instant"
    INTERVAL = "interval"
    MANUAL = "manual"


class Mining(_Frozen):
    """How blocks come; `interval_s` only counts for `interval`."""

    mode: MiningMode
    interval_s: Annotated[float, Field(gt=0)] = 0.2


class Fees(_Frozen):
    """Fees to set, in wei per gas; None leaves one as it is."""

    base_fee: Wei | None = None
    min_tip: Wei | None = None
    below_base_fee: BelowBaseFee | None = None


class Mine(_Frozen):
    """Blocks to mine at once, with what is executable or `empty`."""

    blocks: Annotated[int, Field(ge=1, le=100_000)] = 1
    empty: bool = False


class Reorganisation(_Frozen):
    """Replace the last `depth` blocks by `blocks` empty ones (None: one more than were replaced)."""

    depth: Annotated[int, Field(ge=1)]
    blocks: Annotated[int, Field(ge=0)] | None = None
    forget: bool = False


class ClockStep(_Frozen):
    """Move the chain's clock; block timestamps never go back."""

    seconds: int


class Balance(_Frozen):
    """An account and its wei."""

    address: Address
    wei: Wei


class RewardSource(StrEnum):
    """Who owes a reward: the RewardPool contract or precompile 0x23."""

    POOL = "pool"
    PRECOMPILE = "precompile"


class Reward(_Frozen):
    """A reward to set. RewardPool's can be claimed once the chain is in epoch `from_epoch`."""

    agent: Address
    wei: Wei
    source: RewardSource = RewardSource.POOL
    from_epoch: int = 0


class Contribution(_Frozen):
    """The six words that RewardPool's getContribution returns for an agent."""

    agent: Address
    words: tuple[Wei, Wei, Wei, Wei, Wei, Wei]


def _one_word(name: str) -> str:
    word = name.encode()
    try:
        as_name(word)
    except MalformedWordError as error:
        raise ValueError(str(error)) from error
    if len(word) > WORD:
        raise ValueError("longer than a word")
    return name


class Sponsorship(_Frozen):
    """An agent to register at 0x21 at nobody's cost, under this name."""

    agent: Address
    name: Annotated[str, AfterValidator(_one_word)]


class TransactionHash(_Frozen):
    """A transaction to drop from the pool."""

    hash: str


class Status(_Frozen):
    """The chain at a glance. `executable` and `queued` count the pool; `height` is the head's number."""

    chain_id: int
    height: int
    head_hash: str
    timestamp: int
    mining: Mining
    base_fee: int
    min_tip: int
    executable: int
    waiting: int
    queued: int
    epoch: int


class AgentInfo(_Frozen):
    """An agent registered at 0x21; times in Unix seconds, `in_registry` tells of the AgentRegistry contract."""

    address: str
    name: str
    model_hash: str
    capabilities: tuple[str, ...]
    beneficiary: str | None
    block: int
    registered_at: int
    heartbeats: int
    last_heartbeat: int
    inferences: int
    tokens: int
    in_registry: bool


class TransactionInfo(_Frozen):
    """A mined transaction; `error` says why it failed, `fee_wei` what it took from its sender beside its value."""

    hash: str
    sender: str
    to: str | None
    nonce: int
    block: int
    timestamp: int
    succeeded: bool
    error: str | None
    gas_used: int
    gas_price: int
    fee_wei: int


class HeartbeatInfo(_Frozen):
    """A successful heartbeat at 0x22."""

    agent: str
    transaction: TransactionInfo


class InferenceInfo(_Frozen):
    """A successful verifyInference at 0x20."""

    agent: str
    model_hash: str
    input_hash: str
    output_hash: str
    tokens: int
    transaction: TransactionInfo


class ClaimInfo(_Frozen):
    """A successful claim; `wei` is known for RewardPool, from its event, and None for 0x23."""

    agent: str
    source: RewardSource
    wei: int | None
    transaction: TransactionInfo


class PoolInfo(_Frozen):
    """A waiting transaction; `queued` when a nonce before it is missing."""

    hash: str
    sender: str
    to: str | None
    nonce: int
    fee_cap: int
    tip_cap: int
    gas: int
    queued: bool


class SeenCall(_Frozen):
    """A JSON-RPC call as it came in, and the faults that struck it."""

    method: str
    params: JsonValue
    faults: tuple[FaultMode, ...]
