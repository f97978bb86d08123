"""A node on the chain: it registers through 0x21, sends heartbeats through 0x22, and outlives the chain's errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from plumised.chain.addresses import HEARTBEAT, REGISTER_AGENT
from tests.devnet.chain import CHAIN_ID, FaultMode
from tests.e2e.cluster import BALANCE_WEI, Cluster
from tests.e2e.services import MODEL_PLACE
from tests.hosts.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.devnet.chain import Admin
    from tests.devnet.chain.model import AgentInfo, HeartbeatInfo, TransactionInfo
    from tests.devnet.configuration import Tables
    from tests.e2e.cluster import Images
    from tests.e2e.nodes import ClusterNode, StatusView

pytestmark = pytest.mark.timeout(600)

BASE_FEE_WEI = 5_000_001
CAP_WEI = 10 * 10**9
SEND = "eth_sendRawTransaction"
BEATEN_WITHIN_S = 90.0
RECOVERED_WITHIN_S = 150.0


@pytest.fixture(scope="module")
def cluster(cluster_images: Images, model: Path, logs: Path) -> Iterator[Cluster]:
    with Cluster.running(cluster_images, model, logs) as running:
        running.chain.ask(lambda chain: chain.set_fees(base_fee=BASE_FEE_WEI))
        # The Oracle, which asks the same chain, would have troubles of its own.
        extra: Tables = {"oracle": {"enabled": False}, "chain": {"rpc_timeout_s": 2.0}}
        node = running.add_node("a", "0:2", extra)
        node.start()
        node.wait_serving()
        yield running


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> ClusterNode:
    return cluster.node("a")


@pytest.fixture(scope="module")
def registered(cluster: Cluster, node: ClusterNode) -> AgentInfo:
    """The agent as the chain has it."""
    agent = wait_until("the agent is registered", lambda: cluster.registered(node), BEATEN_WITHIN_S)
    assert agent is not None
    return agent


def heartbeats(cluster: Cluster, node: ClusterNode) -> tuple[HeartbeatInfo, ...]:
    return cluster.chain.ask(lambda chain: chain.heartbeats(node.agent))


def transactions(cluster: Cluster, node: ClusterNode) -> tuple[TransactionInfo, ...]:
    return cluster.chain.ask(lambda chain: chain.transactions(node.agent))


def wait_for_another_heartbeat(cluster: Cluster, node: ClusterNode, timeout_s: float = BEATEN_WITHIN_S) -> None:
    before = len(heartbeats(cluster, node))
    wait_until("another heartbeat is mined", lambda: len(heartbeats(cluster, node)) > before, timeout_s)


def test_the_chain_has_the_agent_with_its_name_and_model(cluster: Cluster, registered: AgentInfo) -> None:
    assert registered.address == cluster.node("a").agent
    assert registered.name == f"model-{registered.address[-8:]}"
    assert registered.model_hash == "0x" + _keccak(MODEL_PLACE)
    assert registered.registered_at > 0


def _keccak(text: str) -> str:
    from eth_utils.crypto import keccak  # noqa: PLC0415 - beside its only use

    return keccak(text=text).hex()


def test_one_transaction_to_0x21_registered_it_paid_by_its_own_wallet(
    cluster: Cluster, node: ClusterNode, registered: AgentInfo
) -> None:
    (registration,) = [each for each in transactions(cluster, node) if each.to == REGISTER_AGENT]

    assert (registration.succeeded, registration.nonce, registration.block) == (True, 0, registered.block)
    assert registration.fee_wei > 0


def test_the_node_knows_that_it_is_registered(node: ClusterNode, registered: AgentInfo) -> None:
    del registered
    status = node.wait("it says registered", lambda status: status.chain.registered is True)

    assert status.chain.chain_id == CHAIN_ID


def test_heartbeats_go_to_0x22_and_are_read_back_from_the_chain(
    cluster: Cluster, node: ClusterNode, registered: AgentInfo
) -> None:
    wait_for_another_heartbeat(cluster, node)

    mined = heartbeats(cluster, node)
    assert {each.transaction.to for each in mined} == {HEARTBEAT}
    agent = cluster.registered(node)
    assert agent is not None
    assert agent.heartbeats >= len(mined)
    assert agent.last_heartbeat >= registered.registered_at
    node.wait("it shows the heartbeat", lambda status: status.chain.last_heartbeat_tx == _last(cluster, node))


def _last(cluster: Cluster, node: ClusterNode) -> str:
    return heartbeats(cluster, node)[-1].transaction.hash


def test_every_transaction_is_signed_by_the_wallet_for_this_chain_only(
    cluster: Cluster, node: ClusterNode, registered: AgentInfo
) -> None:
    del registered
    sent = [str(_raw(call.params)) for call in cluster.chain.ask(lambda chain: chain.calls(SEND))]

    assert sent
    for raw in sent:
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        assert Account.recover_transaction(raw) == node.agent
        assert fields["chainId"] == CHAIN_ID
        assert "0x" + HexBytes(fields["to"]).hex().removeprefix("0x") in (REGISTER_AGENT, HEARTBEAT)
        assert fields["value"] == 0
        assert BASE_FEE_WEI <= fields["maxFeePerGas"] <= CAP_WEI
        assert fields["maxPriorityFeePerGas"] <= fields["maxFeePerGas"]
        assert 21_000 < fields["gas"] <= 1_000_000


def _raw(params: object) -> object:
    assert isinstance(params, list)
    return params[0]


def test_nonces_have_neither_gaps_nor_repetitions(cluster: Cluster, node: ClusterNode, registered: AgentInfo) -> None:
    del registered
    mined = transactions(cluster, node)

    assert [each.nonce for each in mined] == list(range(len(mined)))


@dataclass(frozen=True)
class ChainError:
    """One thing that goes wrong on the chain's side.

    Attributes:
        begin: makes it go wrong.
        end: what `Admin.clear_faults` does not mend.
        codes: of which the status shows one.
    """

    name: str
    begin: Callable[[Admin, str], Awaitable[None]]
    codes: frozenset[str]
    end: Callable[[Admin, str], Awaitable[None]] | None = None


def fault(mode: FaultMode, *methods: str, code: str = "rpc-none-usable") -> ChainError:
    name = "-".join((mode.value, *methods))
    return ChainError(name, lambda chain, _: chain.fault(mode, *methods), frozenset({code}))


ERRORS = (
    fault(FaultMode.REFUSE),
    fault(FaultMode.HANG),
    fault(FaultMode.STATUS_500),
    fault(FaultMode.STATUS_429),
    fault(FaultMode.GARBAGE),
    fault(FaultMode.DROP),
    fault(FaultMode.WRONG_CHAIN_ID),
    fault(FaultMode.STALE, code="heartbeat-pending"),
    fault(FaultMode.ERROR, SEND, code="transaction-refused"),
    ChainError(
        "base-fee-above-the-cap",
        lambda chain, _: chain.set_fees(base_fee=2 * CAP_WEI),
        frozenset({"fees-above-cap"}),
        lambda chain, _: chain.set_fees(base_fee=BASE_FEE_WEI),
    ),
    ChainError(
        "balance-0",
        lambda chain, agent: chain.set_balance(agent, 0),
        frozenset({"balance-low", "insufficient-funds"}),
        lambda chain, agent: chain.set_balance(agent, BALANCE_WEI),
    ),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.name)
def test_the_node_tells_what_is_wrong_serves_on_and_beats_again_when_it_is_over(
    cluster: Cluster, node: ClusterNode, registered: AgentInfo, error: ChainError
) -> None:
    del registered
    cluster.chain.ask(lambda chain: error.begin(chain, node.agent))
    try:
        told = node.wait(
            f"it tells one of {sorted(error.codes)}", lambda s: bool(s.codes & error.codes), BEATEN_WITHIN_S
        )
        _assert_honest(told, error)
    finally:
        cluster.chain.ask(lambda chain: chain.clear_faults())
        if error.end is not None:
            end = error.end
            cluster.chain.ask(lambda chain: end(chain, node.agent))

    wait_for_another_heartbeat(cluster, node, RECOVERED_WITHIN_S)
    node.wait("all is well", lambda status: not status.problems, RECOVERED_WITHIN_S)


def _assert_honest(told: StatusView, error: ChainError) -> None:
    assert told.serving
    for problem in told.problems:
        if problem.code in error.codes:
            assert problem.message
            assert problem.remedy


def test_a_heartbeat_whose_answer_was_lost_is_not_sent_twice(
    cluster: Cluster, node: ClusterNode, registered: AgentInfo
) -> None:
    del registered
    cluster.chain.ask(lambda chain: chain.fault(FaultMode.LOSE_REPLY, SEND, count=1))

    wait_for_another_heartbeat(cluster, node, RECOVERED_WITHIN_S)
    wait_for_another_heartbeat(cluster, node, RECOVERED_WITHIN_S)

    mined = transactions(cluster, node)
    assert [each.nonce for each in mined] == list(range(len(mined)))
    assert all(each.succeeded for each in mined)
