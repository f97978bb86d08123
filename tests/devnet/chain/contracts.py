"""The RewardPool and AgentRegistry contracts: the calls that a node makes, with their events and revert reasons."""

from __future__ import annotations

from typing import Final

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak

from tests.devnet.chain import words
from tests.devnet.chain.native import Frame, NativeCode, Storage, contract, selector

REWARD_POOL: Final = bytes(18) + b"\x10\x00"
AGENT_REGISTRY: Final = bytes.fromhex("c9cf64344d22f02f6cdb8e7b5349f30e09f9043c")

ACTIVE_FOR_S: Final = 300
"""The registry calls an agent inactive when it was last heard longer ago."""

EPOCH_LENGTH_SLOT: Final = 0
"""Slot of RewardPool with the number of blocks in an epoch, written at genesis."""

REWARD_CLAIMED: Final = bytes(keccak(b"RewardClaimed(address,uint256)"))
AGENT_REGISTERED: Final = bytes(keccak(b"AgentRegistered(address,bytes32,string)"))
AGENT_HEARTBEAT: Final = bytes(keccak(b"Heartbeat(address,uint256)"))

# RewardPool, mapping 1: a reward and the epoch from which it can be claimed; mapping 2: an agent's contribution.
_REWARDS: Final = 1
_CONTRIBUTIONS: Final = 2
_AMOUNT, _FROM_EPOCH = range(2)
CONTRIBUTION_WORDS: Final = 6
# AgentRegistry, mapping 0.
_NODE_ID, _HEARD, _METADATA_HASH = range(3)

# What such a call costs when compiled by solc is about this; a claim then uses about 60 000 with its 21 000 intrinsic.
_READ_GAS: Final = 2_600
_CLAIM_GAS: Final = 38_500
_REGISTER_GAS: Final = 120_000
_HEARTBEAT_GAS: Final = 10_000


def reward_slots(agent: bytes) -> tuple[int, int]:
    """Return RewardPool's slots for an agent's reward: the amount in wei, the epoch from which it is claimable."""
    return words.slot(agent, _REWARDS, _AMOUNT), words.slot(agent, _REWARDS, _FROM_EPOCH)


def contribution_slots(agent: bytes) -> tuple[int, ...]:
    """Return RewardPool's slots for the six words of an agent's contribution."""
    return tuple(words.slot(agent, _CONTRIBUTIONS, field) for field in range(CONTRIBUTION_WORDS))


def epoch_of(pool: Storage, block: int) -> int:
    """Return the epoch that `block` belongs to; `pool` is RewardPool's storage."""
    return block // pool.read(EPOCH_LENGTH_SLOT)


def is_in_registry(registry: Storage, agent: bytes) -> bool:
    """Tell whether `agent` is in the AgentRegistry contract; `registry` is its storage."""
    return registry.read(words.slot(agent, 0, _NODE_ID)) != 0


def _agent_argument(frame: Frame) -> bytes:
    try:
        (address,) = decode(["address"], frame.calldata[4:])
    except DecodingError as error:
        raise frame.revert("") from error
    return bytes.fromhex(str(address)[2:])


def _pending(frame: Frame, agent: bytes) -> int:
    amount, from_epoch = (frame.storage.read(slot) for slot in reward_slots(agent))
    return amount if epoch_of(frame.storage, frame.block) >= from_epoch else 0


def _get_pending_reward(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    return words.number(_pending(frame, _agent_argument(frame)))


def _get_contribution(frame: Frame) -> bytes:
    frame.spend(_READ_GAS * CONTRIBUTION_WORDS)
    return b"".join(words.number(frame.storage.read(slot)) for slot in contribution_slots(_agent_argument(frame)))


def _get_current_epoch(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    return words.number(epoch_of(frame.storage, frame.block))


def _claim_reward(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    if not is_in_registry(Storage(frame.state, AGENT_REGISTRY), frame.caller):
        raise frame.revert("Not registered")
    wei = _pending(frame, frame.caller)
    if wei == 0:
        raise frame.revert("No rewards")
    frame.spend(_CLAIM_GAS - _READ_GAS)
    frame.about_to_write()
    frame.storage.write(reward_slots(frame.caller)[0], 0)
    frame.pay(frame.caller, wei)
    frame.log(REWARD_CLAIMED, (words.address_word(frame.caller),), words.number(wei))
    return b""


def _register_agent(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    try:
        node_id, metadata = decode(["bytes32", "string"], frame.calldata[4:])
    except (DecodingError, UnicodeDecodeError) as error:
        raise frame.revert("") from error
    if is_in_registry(frame.storage, frame.caller):
        raise frame.revert("AgentRegistry: already registered")
    if not any(node_id):
        raise frame.revert("AgentRegistry: invalid nodeId")
    frame.spend(_REGISTER_GAS - _READ_GAS)
    frame.about_to_write()
    record = {
        _NODE_ID: int.from_bytes(node_id, "big"),
        _HEARD: frame.timestamp,
        _METADATA_HASH: int.from_bytes(keccak(str(metadata).encode()), "big"),
    }
    for field, value in record.items():
        frame.storage.write(words.slot(frame.caller, 0, field), value)
    frame.log(AGENT_REGISTERED, (words.address_word(frame.caller),), encode(["bytes32", "string"], [node_id, metadata]))
    return b""


def _heartbeat(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    if not is_in_registry(frame.storage, frame.caller):
        raise frame.revert("AgentRegistry: not registered")
    frame.spend(_HEARTBEAT_GAS - _READ_GAS)
    frame.about_to_write()
    frame.storage.write(words.slot(frame.caller, 0, _HEARD), frame.timestamp)
    frame.log(AGENT_HEARTBEAT, (words.address_word(frame.caller),), words.number(frame.timestamp))
    return b""


def _is_registered(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    return words.number(int(is_in_registry(frame.storage, _agent_argument(frame))))


def _is_active(frame: Frame) -> bytes:
    frame.spend(_READ_GAS)
    agent = _agent_argument(frame)
    heard = frame.storage.read(words.slot(agent, 0, _HEARD))
    active = is_in_registry(frame.storage, agent) and frame.timestamp - heard <= ACTIVE_FOR_S
    return words.number(int(active))


CONTRACTS: Final[dict[bytes, NativeCode]] = {
    REWARD_POOL: contract(
        REWARD_POOL,
        {
            selector("getPendingReward(address)"): _get_pending_reward,
            selector("getContribution(address)"): _get_contribution,
            selector("getCurrentEpoch()"): _get_current_epoch,
            selector("claimReward()"): _claim_reward,
        },
        takes_payments=True,
    ),
    AGENT_REGISTRY: contract(
        AGENT_REGISTRY,
        {
            selector("registerAgent(bytes32,string)"): _register_agent,
            selector("heartbeat()"): _heartbeat,
            selector("isRegistered(address)"): _is_registered,
            selector("isActive(address)"): _is_active,
        },
    ),
}
