"""The chain's four stateful precompiles, 0x20 to 0x23, as docs of the network describe their calldata.

What each costs beside 0x20's 50 000 gas is this devnet's choice; all stay under the gas limits in use on the network.
A failure gives receipt status 0 and, as with geth's precompiles, takes all the gas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.devnet.chain import words
from tests.devnet.chain.native import Frame, NativeCode, RefusedError, Storage, precompile

VERIFY_INFERENCE: Final = bytes(19) + b"\x20"
REGISTER_AGENT: Final = bytes(19) + b"\x21"
HEARTBEAT: Final = bytes(19) + b"\x22"
CLAIM_REWARD: Final = bytes(19) + b"\x23"

VERIFY_GAS: Final = 50_000
REGISTER_GAS: Final = 80_000
CAPABILITY_GAS: Final = 5_000
HEARTBEAT_GAS: Final = 20_000
CLAIM_GAS: Final = 40_000
MAX_CAPABILITIES: Final = 16

_YES: Final = words.number(1)

# Layout of 0x21: slot 0 is the number of agents, mapping 1 their addresses by index, mapping 2 what is kept of each.
_COUNT: Final = 0
_AGENTS: Final = 1
_RECORDS: Final = 2
_BLOCK, _TIME, _NAME, _MODEL, _BENEFICIARY, _CAPABILITIES = range(6)
# Layout of 0x22, mapping 0: how often and when an agent was last heard.
_BEATS, _LAST_BEAT = range(2)
# Layout of 0x20, mapping 0: inferences and tokens verified.  Layout of 0x23, mapping 0: what is due to an agent.
_INFERENCES, _TOKENS = range(2)


@dataclass(frozen=True)
class Agent:
    """An entry of 0x21, with what 0x20 and 0x22 keep of the same agent; times in Unix seconds."""

    address: bytes
    name: str
    model_hash: bytes
    capabilities: tuple[bytes, ...]
    beneficiary: bytes | None
    block: int
    registered_at: int
    heartbeats: int
    last_heartbeat: int
    inferences: int
    tokens: int


@dataclass(frozen=True)
class Inference:
    """What a call of 0x20 says."""

    model_hash: bytes
    input_hash: bytes
    output_hash: bytes
    agent: bytes
    tokens: int


@dataclass(frozen=True)
class Entry:
    """What registerAgent is told: whole words, but for the beneficiary, which is zero where there is none."""

    name: bytes
    model_hash: bytes
    capabilities: tuple[bytes, ...]
    beneficiary: bytes


def parse_inference(calldata: bytes) -> Inference:
    """Read calldata of 0x20; raises MalformedWordError."""
    parts = words.split(calldata)
    if len(parts) != 5:
        raise words.MalformedWordError(f"expected 160 bytes, got {len(calldata)}")
    model, given, made, agent, tokens = parts
    count = int.from_bytes(tokens, "big")
    if count == 0:
        raise words.MalformedWordError("token count is zero")
    return Inference(model, given, made, words.as_address(agent), count)


def parse_agent(calldata: bytes, caller: bytes) -> bytes:
    """Read calldata of 0x22 and 0x23: nothing for the caller, or one word; raises MalformedWordError."""
    parts = words.split(calldata)
    if len(parts) > 1:
        raise words.MalformedWordError(f"expected no or one word, got {len(parts)}")
    return words.as_address(parts[0]) if parts else caller


def enrol(state: Storage, agent: bytes, name: bytes) -> None:
    """Register `agent` without a transaction of its own, unless it is registered; `state` is 0x21's storage.

    Args:
        state: 0x21's storage in the block that is being made.
        agent: address.
        name: one word, as registerAgent takes it.
    """
    if not is_registered(state, agent):
        _enter(state, agent, Entry(name, bytes(32), (), bytes(20)))


def is_registered(state: Storage, agent: bytes) -> bool:
    """Tell whether `agent` is in 0x21; `state` is 0x21's storage."""
    return state.read(words.slot(agent, _RECORDS, _BLOCK)) > 0


def _verify_inference(frame: Frame) -> bytes:
    frame.spend(VERIFY_GAS)
    frame.about_to_write()
    inference = parse_inference(frame.calldata)
    if inference.agent != frame.caller:
        raise RefusedError("sender is not the agent")
    storage, agent = frame.storage, inference.agent
    for field, amount in ((_INFERENCES, 1), (_TOKENS, inference.tokens)):
        at = words.slot(agent, 0, field)
        total = storage.read(at) + amount
        if total > words.MAX_WORD:
            raise RefusedError("token count overflows")
        storage.write(at, total)
    return _YES


def _register_agent(frame: Frame) -> bytes:
    frame.spend(REGISTER_GAS)
    frame.about_to_write()
    parts = words.split(frame.calldata)
    if len(parts) < 3:
        raise words.MalformedWordError(f"expected at least 96 bytes, got {len(frame.calldata)}")
    name, model = parts[:2]
    words.as_name(name)
    count = int.from_bytes(parts[2], "big")
    if count > MAX_CAPABILITIES:
        raise words.MalformedWordError(f"more than {MAX_CAPABILITIES} capabilities")
    frame.spend(CAPABILITY_GAS * count)
    if len(parts) not in (3 + count, 4 + count):
        raise words.MalformedWordError(f"{len(parts)} words do not fit {count} capabilities")
    capabilities, rest = parts[3 : 3 + count], parts[3 + count :]
    beneficiary = words.as_address(rest[0]) if rest else bytes(20)

    if is_registered(frame.storage, frame.caller):
        raise RefusedError("agent already registered")
    _enter(frame.storage, frame.caller, Entry(name, model, capabilities, beneficiary))
    return _YES


def _enter(storage: Storage, agent: bytes, entry: Entry) -> None:
    index = storage.read(_COUNT)
    storage.write(_COUNT, index + 1)
    storage.write(words.slot(words.number(index), _AGENTS), int.from_bytes(agent, "big"))
    record = {
        _BLOCK: int(storage.state.block_number),
        _TIME: int(storage.state.timestamp),
        _NAME: int.from_bytes(entry.name, "big"),
        _MODEL: int.from_bytes(entry.model_hash, "big"),
        _BENEFICIARY: int.from_bytes(entry.beneficiary, "big"),
        _CAPABILITIES: len(entry.capabilities),
    } | {_CAPABILITIES + 1 + at: int.from_bytes(word, "big") for at, word in enumerate(entry.capabilities)}
    for field, value in record.items():
        storage.write(words.slot(agent, _RECORDS, field), value)


def _heartbeat(frame: Frame) -> bytes:
    frame.spend(HEARTBEAT_GAS)
    frame.about_to_write()
    agent = parse_agent(frame.calldata, frame.caller)
    if not is_registered(Storage(frame.state, REGISTER_AGENT), agent):
        raise RefusedError("agent not registered")
    storage = frame.storage
    beats = words.slot(agent, 0, _BEATS)
    storage.write(beats, storage.read(beats) + 1)
    storage.write(words.slot(agent, 0, _LAST_BEAT), frame.timestamp)
    return _YES


def _claim_reward(frame: Frame) -> bytes:
    frame.spend(CLAIM_GAS)
    frame.about_to_write()
    agent = parse_agent(frame.calldata, frame.caller)
    registry = Storage(frame.state, REGISTER_AGENT)
    if not is_registered(registry, agent):
        raise RefusedError("agent not registered")
    due = words.slot(agent, 0)
    wei = frame.storage.read(due)
    if wei == 0:
        raise RefusedError("no rewards to claim")
    frame.storage.write(due, 0)
    beneficiary = registry.read(words.slot(agent, _RECORDS, _BENEFICIARY))
    frame.pay(beneficiary.to_bytes(20, "big") if beneficiary else agent, wei)
    return words.number(wei)


def due_slot(agent: bytes) -> int:
    """Return the slot of 0x23 that holds the wei due to `agent`."""
    return words.slot(agent, 0)


def agent_at(state: Storage, address: bytes) -> Agent | None:
    """Read an agent out of a state; `state` is 0x21's storage. None when it is not registered."""
    if not is_registered(state, address):
        return None

    def record(field: int) -> bytes:
        return words.number(state.read(words.slot(address, _RECORDS, field)))

    def counter(account: bytes, field: int) -> int:
        return Storage(state.state, account).read(words.slot(address, 0, field))

    beneficiary = record(_BENEFICIARY)[12:]
    return Agent(
        address=address,
        name=words.as_name(record(_NAME)),
        model_hash=record(_MODEL),
        capabilities=tuple(
            record(_CAPABILITIES + 1 + at) for at in range(int.from_bytes(record(_CAPABILITIES), "big"))
        ),
        beneficiary=beneficiary if any(beneficiary) else None,
        block=int.from_bytes(record(_BLOCK), "big"),
        registered_at=int.from_bytes(record(_TIME), "big"),
        heartbeats=counter(HEARTBEAT, _BEATS),
        last_heartbeat=counter(HEARTBEAT, _LAST_BEAT),
        inferences=counter(VERIFY_INFERENCE, _INFERENCES),
        tokens=counter(VERIFY_INFERENCE, _TOKENS),
    )


def agents_in(state: Storage) -> tuple[Agent, ...]:
    """List the registered agents in the order of their registration; `state` is 0x21's storage."""
    addresses = (
        state.read(words.slot(words.number(index), _AGENTS)).to_bytes(20, "big") for index in range(state.read(_COUNT))
    )
    return tuple(agent for address in addresses if (agent := agent_at(state, address)) is not None)


PRECOMPILES: Final[dict[bytes, NativeCode]] = {
    VERIFY_INFERENCE: precompile(VERIFY_INFERENCE, _verify_inference),
    REGISTER_AGENT: precompile(REGISTER_AGENT, _register_agent),
    HEARTBEAT: precompile(HEARTBEAT, _heartbeat),
    CLAIM_REWARD: precompile(CLAIM_REWARD, _claim_reward),
}
