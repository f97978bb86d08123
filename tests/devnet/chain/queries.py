"""What tests and the demo ask about the chain, read from its head's state and its canonical transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.devnet.chain import precompiles, rendering
from tests.devnet.chain.contracts import AGENT_REGISTRY, REWARD_CLAIMED, REWARD_POOL, epoch_of, is_in_registry
from tests.devnet.chain.model import (
    AgentInfo,
    ClaimInfo,
    HeartbeatInfo,
    InferenceInfo,
    PoolInfo,
    RewardSource,
    Status,
    TransactionInfo,
)
from tests.devnet.chain.native import Storage
from tests.devnet.chain.rendering import address, hexed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.devnet.chain.blockchain import Blockchain
    from tests.devnet.chain.blocks import Mined, Sealed
    from tests.devnet.chain.node import Node


def status(node: Node) -> Status:
    chain, waiting = node.chain, tuple(node.chain.pool)
    return Status(
        chain_id=chain.rules.chain_id,
        height=chain.head.number,
        head_hash=hexed(chain.head.hash),
        timestamp=int(chain.head.header.timestamp),
        mining=node.mining,
        base_fee=chain.conditions.base_fee,
        min_tip=chain.conditions.min_tip,
        executable=len(chain.executable()),
        waiting=len(waiting),
        queued=sum(chain.is_queued(each) for each in waiting),
        epoch=epoch_of(_storage(chain, REWARD_POOL), chain.head.number),
    )


def agents(chain: Blockchain) -> tuple[AgentInfo, ...]:
    registry = _storage(chain, AGENT_REGISTRY)
    return tuple(
        AgentInfo(
            address=address(agent.address),
            name=agent.name,
            model_hash=hexed(agent.model_hash),
            capabilities=tuple(hexed(each) for each in agent.capabilities),
            beneficiary=None if agent.beneficiary is None else address(agent.beneficiary),
            block=agent.block,
            registered_at=agent.registered_at,
            heartbeats=agent.heartbeats,
            last_heartbeat=agent.last_heartbeat,
            inferences=agent.inferences,
            tokens=agent.tokens,
            in_registry=is_in_registry(registry, agent.address),
        )
        for agent in precompiles.agents_in(_storage(chain, precompiles.REGISTER_AGENT))
    )


def transactions(chain: Blockchain) -> tuple[TransactionInfo, ...]:
    return tuple(_info(sealed, mined) for sealed, mined in chain.transactions())


def heartbeats(chain: Blockchain) -> tuple[HeartbeatInfo, ...]:
    return tuple(
        HeartbeatInfo(
            agent=address(precompiles.parse_agent(bytes(mined.transaction.data), mined.sender)),
            transaction=_info(sealed, mined),
        )
        for sealed, mined in _successes(chain, precompiles.HEARTBEAT)
    )


def inferences(chain: Blockchain) -> tuple[InferenceInfo, ...]:
    found = []
    for sealed, mined in _successes(chain, precompiles.VERIFY_INFERENCE):
        said = precompiles.parse_inference(bytes(mined.transaction.data))
        found.append(
            InferenceInfo(
                agent=address(said.agent),
                model_hash=hexed(said.model_hash),
                input_hash=hexed(said.input_hash),
                output_hash=hexed(said.output_hash),
                tokens=said.tokens,
                transaction=_info(sealed, mined),
            )
        )
    return tuple(found)


def claims(chain: Blockchain) -> tuple[ClaimInfo, ...]:
    from_pool = [
        ClaimInfo(
            agent=address(log.topics[1][12:]),
            source=RewardSource.POOL,
            wei=int.from_bytes(log.data, "big"),
            transaction=_info(sealed, mined),
        )
        for sealed, mined in chain.transactions()
        for log in mined.logs
        if log.address == REWARD_POOL and log.topics[0] == REWARD_CLAIMED
    ]
    from_precompile = [
        ClaimInfo(
            agent=address(precompiles.parse_agent(bytes(mined.transaction.data), mined.sender)),
            source=RewardSource.PRECOMPILE,
            wei=None,
            transaction=_info(sealed, mined),
        )
        for sealed, mined in _successes(chain, precompiles.CLAIM_REWARD)
    ]
    return tuple(sorted(from_pool + from_precompile, key=lambda claim: claim.transaction.block))


def pool(chain: Blockchain) -> tuple[PoolInfo, ...]:
    return tuple(
        PoolInfo(
            hash=hexed(each.hash),
            sender=address(each.sender),
            to=_recipient(each.transaction.to),
            nonce=each.nonce,
            fee_cap=each.fee_cap,
            tip_cap=each.tip_cap,
            gas=int(each.transaction.gas),
            queued=chain.is_queued(each),
        )
        for each in sorted(chain.pool, key=lambda entry: entry.arrival)
    )


def _storage(chain: Blockchain, account: bytes) -> Storage:
    return Storage(chain.state(chain.head.number), account)


def _successes(chain: Blockchain, recipient: bytes) -> Iterator[tuple[Sealed, Mined]]:
    return (
        (sealed, mined)
        for sealed, mined in chain.transactions()
        if mined.succeeded and mined.transaction.to == recipient
    )


def _recipient(raw: bytes) -> str | None:
    return address(raw) if raw else None


def _info(sealed: Sealed, mined: Mined) -> TransactionInfo:
    return TransactionInfo(
        hash=hexed(mined.hash),
        sender=rendering.address(mined.sender),
        to=_recipient(mined.transaction.to),
        nonce=int(mined.transaction.nonce),
        block=sealed.number,
        timestamp=int(sealed.header.timestamp),
        succeeded=mined.succeeded,
        error=mined.error,
        gas_used=mined.gas_used,
        gas_price=mined.gas_price,
        fee_wei=mined.gas_used * mined.gas_price,
    )
