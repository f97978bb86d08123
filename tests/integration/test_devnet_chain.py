"""The devnet's chain does what wire-formats.md says of the network's: its precompiles, contracts and agent methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3.exceptions import ContractLogicError, Web3RPCError

from tests.devnet.chain import AdminError, DevChain, MiningMode, RewardSource
from tests.devnet.chain.blockchain import CHAIN_ID, Blockchain
from tests.devnet.chain.contracts import AGENT_REGISTRY, REWARD_POOL
from tests.devnet.chain.native import selector
from tests.devnet.chain.simulation import Call
from tests.integration.chain_wallet import ALICE, BOB, ONE_PLM, Wallet, connected, precompile, registration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VERIFY, REGISTER, HEARTBEAT, CLAIM = (precompile(number) for number in (0x20, 0x21, 0x22, 0x23))
POOL = to_checksum_address(REWARD_POOL)
REGISTRY = to_checksum_address(AGENT_REGISTRY)


@pytest.fixture
async def chain() -> AsyncIterator[DevChain]:
    async with DevChain(funds={ALICE.address: ONE_PLM, BOB.address: ONE_PLM}) as running:
        yield running


@pytest.fixture
async def alice(chain: DevChain) -> AsyncIterator[Wallet]:
    async with connected(chain.url) as web3:
        yield Wallet(web3, ALICE)


@pytest.fixture
async def bob(chain: DevChain) -> AsyncIterator[Wallet]:
    async with connected(chain.url) as web3:
        yield Wallet(web3, BOB)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def agent_word(wallet: Wallet) -> bytes:
    return bytes.fromhex(wallet.address[2:]).rjust(32, b"\0")


def inference(agent: Wallet, tokens: int = 50) -> bytes:
    return b"\1" * 32 + b"\2" * 32 + b"\3" * 32 + agent_word(agent) + word(tokens)


async def rpc(wallet: Wallet, method: str, *params: object) -> dict[str, object]:
    return dict(await wallet.web3.provider.make_request(method, list(params)))


# Registration


async def test_the_golden_registration_is_taken(chain: DevChain, alice: Wallet) -> None:
    golden = bytes.fromhex("626c6f6f6d2d3536306d2d4534383535413446").ljust(96, b"\0")
    assert golden == registration()

    assert (await alice.run(REGISTER, golden))["status"] == 1

    (agent,) = await chain.admin.agents()
    assert (agent.address, agent.name, agent.block) == (alice.address, "bloom-560m-E4855A4F", 1)
    assert agent.model_hash == "0x" + "00" * 32
    assert agent.in_registry is False


async def test_capabilities_and_a_beneficiary_are_kept(chain: DevChain, alice: Wallet, bob: Wallet) -> None:
    capability = b"inference".ljust(32, b"\0")
    data = b"node".ljust(32, b"\0") + b"\7" * 32 + word(1) + capability + agent_word(bob)

    assert (await alice.run(REGISTER, data))["status"] == 1

    (agent,) = await chain.admin.agents()
    assert agent.capabilities == ("0x" + capability.hex(),)
    assert agent.beneficiary == bob.address


async def test_a_second_registration_is_mined_and_fails(chain: DevChain, alice: Wallet) -> None:
    await alice.run(REGISTER, registration())

    receipt = await alice.run(REGISTER, registration("another"))

    assert receipt["status"] == 0
    assert [agent.name for agent in await chain.admin.agents()] == ["bloom-560m-E4855A4F"]
    assert (await chain.admin.transactions(alice.address))[1].error == "agent already registered"


async def test_a_second_registration_shows_in_a_simulation(alice: Wallet) -> None:
    assert await alice.call(REGISTER, registration()) == word(1)
    await alice.run(REGISTER, registration())

    with pytest.raises(Web3RPCError, match="agent already registered"):
        await alice.call(REGISTER, registration())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        registration()[:-1],
        registration()[:64],
        bytes(96),
        b"node".rjust(32, b"\0") + bytes(64),
        b"\xff\xfe".ljust(32, b"\0") + bytes(64),
        b"node".ljust(32, b"\0") + bytes(32) + word(1),
        b"node".ljust(32, b"\0") + bytes(32) + word(2**255),
        registration() + word(1) + word(2),
        registration() + b"\1" * 32,
        registration() + bytes(32),
    ],
    ids=[
        "nothing",
        "a byte short",
        "a word short",
        "no name",
        "a name padded left",
        "a name that is not UTF-8",
        "a missing capability",
        "countless capabilities",
        "a word too many",
        "a beneficiary that is no address",
        "a beneficiary of zero",
    ],
)
async def test_malformed_registrations_fail(chain: DevChain, alice: Wallet, data: bytes) -> None:
    assert (await alice.run(REGISTER, data))["status"] == 0
    assert await chain.admin.agents() == ()


# Heartbeats


async def test_whom_the_admin_registers_is_as_registered_as_by_a_transaction(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.register(alice.address.lower(), "node-e4855a4f")

    agent = await chain.admin.agent(alice.address)
    assert agent is not None
    assert (agent.name, agent.block, agent.in_registry) == ("node-e4855a4f", 1, False)
    assert await alice.web3.eth.get_balance(to_checksum_address(alice.address)) == ONE_PLM
    assert (await rpc(alice, "agent_isAgentAccount", alice.address, "latest"))["result"] is True
    assert (await alice.run(HEARTBEAT, b""))["status"] == 1
    assert (await alice.run(REGISTER, registration()))["status"] == 0


async def test_the_admin_leaves_a_registered_agent_as_it_is(chain: DevChain, alice: Wallet) -> None:
    await alice.run(REGISTER, registration())
    before = await chain.admin.agents()

    await chain.admin.register(alice.address, "another-name")

    assert await chain.admin.agents() == before


@pytest.mark.parametrize("name", ["", "x" * 33, "a\0b"])
async def test_the_admin_registers_nobody_under_an_impossible_name(chain: DevChain, alice: Wallet, name: str) -> None:
    with pytest.raises((AdminError, ValueError), match=r"name|word"):
        await chain.admin.register(alice.address, name)
    assert await chain.admin.agents() == ()


async def test_a_heartbeat_of_the_unregistered_fails(chain: DevChain, alice: Wallet) -> None:
    assert (await alice.run(HEARTBEAT, gas=100_000))["status"] == 0
    assert await chain.admin.heartbeats() == ()


async def test_heartbeats_are_counted_with_block_and_gas(chain: DevChain, alice: Wallet) -> None:
    await alice.run(REGISTER, registration())
    receipts = [await alice.run(HEARTBEAT, gas=100_000), await alice.run(HEARTBEAT, agent_word(alice), gas=100_000)]

    beats = await chain.admin.heartbeats(alice.address)

    assert [beat.transaction.block for beat in beats] == [receipt["blockNumber"] for receipt in receipts] == [2, 3]
    assert [beat.transaction.gas_used for beat in beats] == [receipt["gasUsed"] for receipt in receipts]
    agent = await chain.admin.agent(alice.address)
    assert agent is not None
    assert agent.heartbeats == 2
    assert agent.last_heartbeat == beats[-1].transaction.timestamp


async def test_another_account_can_beat_for_an_agent(chain: DevChain, alice: Wallet, bob: Wallet) -> None:
    await alice.run(REGISTER, registration())

    assert (await bob.run(HEARTBEAT, agent_word(alice), gas=100_000))["status"] == 1
    assert [beat.agent for beat in await chain.admin.heartbeats()] == [alice.address]


# Inferences


async def test_a_verified_inference_costs_50000_gas_and_is_counted(chain: DevChain, alice: Wallet) -> None:
    data = inference(alice, tokens=50)
    intrinsic = 21_000 + sum(16 if byte else 4 for byte in data)

    receipt = await alice.run(VERIFY, data, gas=200_000)

    assert (receipt["status"], receipt["gasUsed"]) == (1, intrinsic + 50_000)
    (verified,) = await chain.admin.inferences()
    assert (verified.agent, verified.tokens) == (alice.address, 50)
    assert verified.output_hash == "0x" + "03" * 32


async def test_only_the_agent_itself_verifies_an_inference(chain: DevChain, alice: Wallet, bob: Wallet) -> None:
    assert (await bob.run(VERIFY, inference(alice), gas=200_000))["status"] == 0
    assert await chain.admin.inferences() == ()


async def test_a_simulation_is_judged_by_its_sender(alice: Wallet, bob: Wallet) -> None:
    assert await alice.call(VERIFY, inference(alice)) == word(1)
    with pytest.raises(Web3RPCError, match="sender is not the agent"):
        await bob.call(VERIFY, inference(alice))


async def test_an_inference_without_tokens_fails(alice: Wallet) -> None:
    assert (await alice.run(VERIFY, inference(alice, tokens=0), gas=200_000))["status"] == 0


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    number=st.sampled_from((0x20, 0x21, 0x22, 0x23)),
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from((bytes(32), word(1), b"\1" * 32, b"name".ljust(32, b"\0"))), max_size=8).map(b"".join),
    ),
    gas=st.integers(min_value=21_000, max_value=300_000),
)
def test_any_calldata_ends_in_success_or_failure(number: int, data: bytes, gas: int) -> None:
    chain = Blockchain(lambda: 1_770_000_000, {})
    floor = 21_000 + 16 * len(data)
    outcome = chain.call(
        Call(
            sender=bytes.fromhex(ALICE.address[2:]),
            to=bytes.fromhex(precompile(number)[2:]),
            data=data,
            gas=floor + gas,
        ),
        height=0,
    )
    assert outcome.succeeded == (outcome.error is None)
    assert outcome.gas_used <= floor + gas
    assert not outcome.reverted


# Rewards


async def test_claiming_without_the_registry_contract_reverts(chain: DevChain, alice: Wallet) -> None:
    await alice.run(REGISTER, registration())
    await chain.admin.set_reward(alice.address, 5)

    with pytest.raises(ContractLogicError, match="Not registered"):
        await alice.call(POOL, bytes.fromhex("b88a802f"))


async def test_claiming_nothing_reverts_with_no_rewards(alice: Wallet) -> None:
    await alice.run(REGISTRY, registry_call(b"\1" * 32))

    with pytest.raises(ContractLogicError, match="execution reverted: No rewards"):
        await alice.call(POOL, bytes.fromhex("b88a802f"))

    receipt = await alice.run(POOL, bytes.fromhex("b88a802f"))
    assert receipt["status"] == 0
    assert receipt["gasUsed"] < 300_000


async def test_a_claim_pays_and_tells_so(chain: DevChain, alice: Wallet) -> None:
    await alice.run(REGISTRY, registry_call(b"\1" * 32))
    await chain.admin.set_reward(alice.address, 7 * ONE_PLM)
    before = await alice.web3.eth.get_balance(ALICE.address)
    assert await alice.call(POOL, bytes.fromhex("4df9d6ba") + agent_word(alice)) == word(7 * ONE_PLM)

    receipt = await alice.run(POOL, bytes.fromhex("b88a802f"))

    assert receipt["status"] == 1
    assert 55_000 <= receipt["gasUsed"] <= 65_000
    assert await alice.web3.eth.get_balance(ALICE.address) == before + 7 * ONE_PLM
    assert await alice.call(POOL, bytes.fromhex("4df9d6ba") + agent_word(alice)) == word(0)
    (log,) = await alice.web3.eth.get_logs({"address": POOL, "fromBlock": 0})
    assert bytes(log["topics"][0]) == alice.web3.keccak(text="RewardClaimed(address,uint256)")
    assert (bytes(log["topics"][1]), bytes(log["data"])) == (agent_word(alice), word(7 * ONE_PLM))
    (claim,) = await chain.admin.claims()
    assert (claim.agent, claim.wei, claim.source) == (alice.address, 7 * ONE_PLM, RewardSource.POOL)


async def test_a_reward_can_be_claimed_from_its_epoch_on() -> None:
    async with (
        DevChain(funds={ALICE.address: ONE_PLM}, epoch_blocks=10, mining=MiningMode.MANUAL) as short,
        connected(short.url) as web3,
    ):
        wallet = Wallet(web3, ALICE)
        await short.admin.set_reward(ALICE.address, 9, from_epoch=1)
        assert await wallet.call(POOL, bytes.fromhex("4df9d6ba") + agent_word(wallet)) == word(0)
        await short.admin.mine(10)
        assert await wallet.call(POOL, bytes.fromhex("b97dd9e2")) == word(1)
        assert await wallet.call(POOL, bytes.fromhex("4df9d6ba") + agent_word(wallet)) == word(9)


async def test_a_contribution_is_six_words(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_contribution(alice.address, (1, 2, 3, 4, 5, 6))

    answer = await alice.call(POOL, bytes.fromhex("21eff7fc") + agent_word(alice))

    assert answer == b"".join(map(word, range(1, 7)))


async def test_the_precompile_pays_the_beneficiary(chain: DevChain, alice: Wallet) -> None:
    beneficiary = "0x" + "00" * 18 + "be0f"
    await alice.run(REGISTER, registration() + word(0xBE0F))
    assert (await alice.run(CLAIM, gas=100_000))["status"] == 0
    await chain.admin.set_reward(alice.address, 3, source=RewardSource.PRECOMPILE)

    assert (await alice.run(CLAIM, gas=100_000))["status"] == 1

    assert await alice.web3.eth.get_balance(alice.web3.to_checksum_address(beneficiary)) == 3
    assert [claim.source for claim in await chain.admin.claims()] == [RewardSource.PRECOMPILE]


# The AgentRegistry contract


def registry_call(node_id: bytes, metadata: str = "{}") -> bytes:
    return bytes.fromhex("9c795951") + encode(["bytes32", "string"], [node_id, metadata])


async def test_the_registry_knows_who_registered_and_who_is_active(chain: DevChain, alice: Wallet) -> None:
    is_registered = bytes.fromhex("c3c5a547") + agent_word(alice)
    is_active = bytes.fromhex("9f8a13d7") + agent_word(alice)
    assert await alice.call(REGISTRY, is_registered) == word(0)

    assert (await alice.run(REGISTRY, registry_call(b"\1" * 32)))["status"] == 1
    assert await alice.call(REGISTRY, is_registered) == word(1)
    assert await alice.call(REGISTRY, is_active) == word(1)

    await chain.admin.advance_clock(302)
    assert await alice.call(REGISTRY, is_active) == word(0)
    assert (await alice.run(REGISTRY, bytes.fromhex("3defb962")))["status"] == 1
    assert await alice.call(REGISTRY, is_active) == word(1)


async def test_the_registry_refuses_a_second_registration_and_an_empty_id(alice: Wallet) -> None:
    with pytest.raises(ContractLogicError, match="AgentRegistry: invalid nodeId"):
        await alice.call(REGISTRY, registry_call(bytes(32)))
    await alice.run(REGISTRY, registry_call(b"\1" * 32))
    with pytest.raises(ContractLogicError, match="AgentRegistry: already registered"):
        await alice.call(REGISTRY, registry_call(b"\1" * 32))


async def test_the_contracts_have_code_and_the_precompiles_have_none(alice: Wallet) -> None:
    sizes = [
        len(await alice.web3.eth.get_code(to_checksum_address(at))) for at in (POOL, REGISTRY, REGISTER, HEARTBEAT)
    ]
    assert sizes == [1, 1, 0, 0]


def test_selectors_are_those_of_the_network() -> None:
    assert {
        name: selector(name).hex()
        for name in (
            "getPendingReward(address)",
            "claimReward()",
            "getContribution(address)",
            "getCurrentEpoch()",
            "registerAgent(bytes32,string)",
            "heartbeat()",
            "isRegistered(address)",
            "isActive(address)",
        )
    } == {
        "getPendingReward(address)": "4df9d6ba",
        "claimReward()": "b88a802f",
        "getContribution(address)": "21eff7fc",
        "getCurrentEpoch()": "b97dd9e2",
        "registerAgent(bytes32,string)": "9c795951",
        "heartbeat()": "3defb962",
        "isRegistered(address)": "c3c5a547",
        "isActive(address)": "9f8a13d7",
    }


# agent_* methods


async def test_agent_methods_know_the_registered(alice: Wallet) -> None:
    asked = (ALICE.address, "latest")
    assert (await rpc(alice, "agent_isAgentAccount", *asked))["result"] is False
    assert (await rpc(alice, "agent_getAgentMeta", *asked))["result"] is None

    await alice.run(REGISTER, registration())

    assert (await rpc(alice, "agent_isAgentAccount", *asked))["result"] is True
    meta = (await rpc(alice, "agent_getAgentMeta", *asked))["result"]
    assert isinstance(meta, dict)
    assert meta["name"] == "bloom-560m-E4855A4F"


async def test_agent_methods_want_two_parameters(alice: Wallet) -> None:
    answer = await rpc(alice, "agent_isAgentAccount", ALICE.address)

    assert answer["error"] == {"code": -32602, "message": "missing value for required argument 1"}


async def test_the_chain_has_its_id(alice: Wallet) -> None:
    assert await alice.web3.eth.chain_id == CHAIN_ID == 41956
    assert (await rpc(alice, "net_version"))["result"] == "41956"
