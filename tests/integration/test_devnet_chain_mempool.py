"""The devnet's chain takes, refuses, replaces, mines and reorganises transactions as geth does, in geth's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from eth_account import Account
from eth_typing import HexStr
from hypothesis import given, settings
from hypothesis import strategies as st
from web3.exceptions import TransactionNotFound, Web3RPCError

from tests.devnet.chain import BelowBaseFee, DevChain, MiningMode
from tests.devnet.chain.anvil import plain_node, plain_nodes
from tests.devnet.chain.blockchain import Blockchain, Conditions
from tests.devnet.chain.mempool import RejectedError
from tests.integration.chain_wallet import ALICE, BOB, CHAIN_ID, ONE_PLM, Wallet, connected, precompile, registration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SINK: Final = HexStr("0x000000000000000000000000000000000000dEaD")


@pytest.fixture
async def chain() -> AsyncIterator[DevChain]:
    async with DevChain(funds={ALICE.address: ONE_PLM, BOB.address: ONE_PLM}, mining=MiningMode.MANUAL) as running:
        yield running


@pytest.fixture
async def alice(chain: DevChain) -> AsyncIterator[Wallet]:
    async with connected(chain.url) as web3:
        yield Wallet(web3, ALICE)


@pytest.fixture
async def bob(chain: DevChain) -> AsyncIterator[Wallet]:
    async with connected(chain.url) as web3:
        yield Wallet(web3, BOB)


async def nonces(wallet: Wallet) -> tuple[int, int]:
    """Return the mined and the pending nonce."""
    count = wallet.web3.eth.get_transaction_count
    return await count(ALICE.address, "latest"), await count(ALICE.address, "pending")


# What is refused, and how


async def test_a_used_nonce_is_too_low(chain: DevChain, alice: Wallet) -> None:
    await alice.send(SINK)
    await chain.admin.mine()

    with pytest.raises(Web3RPCError, match="nonce too low: next nonce 1, tx nonce 0"):
        await alice.send(SINK, nonce=0, value=1)


async def test_a_waiting_transaction_is_already_known_and_a_mined_one_too_low(chain: DevChain, alice: Wallet) -> None:
    raw = alice.sign(SINK)
    await alice.web3.eth.send_raw_transaction(raw)
    with pytest.raises(Web3RPCError, match="already known"):
        await alice.web3.eth.send_raw_transaction(raw)

    await chain.admin.mine()
    with pytest.raises(Web3RPCError, match="nonce too low"):
        await alice.web3.eth.send_raw_transaction(raw)


@pytest.mark.parametrize(
    ("fee_cap", "tip_cap", "taken"),
    [(1000, 100, False), (1099, 110, False), (1100, 109, False), (1100, 110, True), (5000, 100, False)],
)
async def test_a_replacement_pays_ten_percent_more_on_both_fees(
    chain: DevChain, alice: Wallet, fee_cap: int, tip_cap: int, taken: bool
) -> None:
    first = await alice.send(SINK, nonce=0, maxFeePerGas=1000, maxPriorityFeePerGas=100)
    second = alice.sign(SINK, nonce=0, value=1, maxFeePerGas=fee_cap, maxPriorityFeePerGas=tip_cap)

    if not taken:
        with pytest.raises(Web3RPCError, match="replacement transaction underpriced"):
            await alice.web3.eth.send_raw_transaction(second)
        assert [entry.hash for entry in await chain.admin.pool()] == [first.to_0x_hex()]
        return
    replacement = await alice.web3.eth.send_raw_transaction(second)
    await chain.admin.mine()
    assert (await alice.web3.eth.get_transaction_receipt(replacement))["status"] == 1
    with pytest.raises(TransactionNotFound):
        await alice.web3.eth.get_transaction(first)


async def test_a_sender_without_money_is_refused_with_the_sums(alice: Wallet) -> None:
    poor = Wallet(alice.web3, Account.from_key(b"\xbb" * 32))

    with pytest.raises(
        Web3RPCError,
        match=r"insufficient funds for gas \* price \+ value: balance 0, tx cost 210000, overshot 210000",
    ):
        await poor.send(SINK, gas=21_000, maxFeePerGas=10)


async def test_waiting_transactions_count_against_the_balance(alice: Wallet) -> None:
    await alice.send(SINK, nonce=0, value=ONE_PLM // 2, gas=21_000, maxFeePerGas=0)

    with pytest.raises(Web3RPCError, match=r"insufficient funds .* queued cost 500000000000000000"):
        await alice.send(SINK, nonce=1, value=ONE_PLM // 2 + 1, gas=21_000, maxFeePerGas=0)


async def test_too_little_gas_for_any_transaction_is_refused(alice: Wallet) -> None:
    with pytest.raises(Web3RPCError, match="intrinsic gas too low: gas 20999, minimum needed 21000"):
        await alice.send(SINK, gas=20_999)


async def test_more_gas_than_a_block_has_is_refused(alice: Wallet) -> None:
    with pytest.raises(Web3RPCError, match="exceeds block gas limit"):
        await alice.send(SINK, gas=30_000_001, maxFeePerGas=0)


async def test_a_tip_above_the_fee_cap_is_refused(alice: Wallet) -> None:
    with pytest.raises(Web3RPCError, match="max priority fee per gas higher than max fee per gas"):
        await alice.send(SINK, maxFeePerGas=1, maxPriorityFeePerGas=2)


async def test_a_tip_below_the_nodes_minimum_is_underpriced(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_fees(min_tip=5)

    with pytest.raises(Web3RPCError, match="transaction underpriced: gas tip cap 4, minimum needed 5"):
        await alice.send(SINK, maxFeePerGas=10, maxPriorityFeePerGas=4)
    await alice.send(SINK, gasPrice=5)


@pytest.mark.parametrize("fees", [{}, {"gasPrice": 0}], ids=["EIP-1559", "legacy"])
async def test_another_chains_transaction_is_refused(alice: Wallet, fees: dict[str, int]) -> None:
    with pytest.raises(Web3RPCError, match="invalid chain id for signer: have 1 want 41956"):
        await alice.send(SINK, b"", chainId=1, **fees)


@pytest.mark.parametrize("raw", ["0x", "0x00", "0xc0", "0x02", "0x02c0", "0x7f01", "0xdeadbeef", "0xf8"])
async def test_what_is_no_transaction_is_refused(alice: Wallet, raw: str) -> None:
    answer = await alice.web3.provider.make_request("eth_sendRawTransaction", [raw])

    assert answer["error"]["code"] == -32000


# Nonces


async def test_the_pending_nonce_counts_what_waits_without_a_gap(chain: DevChain, alice: Wallet) -> None:
    await alice.send(SINK, nonce=0)
    await alice.send(SINK, nonce=2)
    assert await nonces(alice) == (0, 1)
    assert [entry.queued for entry in await chain.admin.pool()] == [False, True]

    await chain.admin.mine()
    assert await nonces(alice) == (1, 1)
    await alice.send(SINK, nonce=1)
    assert await nonces(alice) == (1, 3)
    await chain.admin.mine()
    assert await nonces(alice) == (3, 3)
    assert await chain.admin.pool() == ()


async def test_a_dropped_transaction_leaves_a_gap(chain: DevChain, alice: Wallet) -> None:
    first = await alice.send(SINK, nonce=0)
    await alice.send(SINK, nonce=1)

    assert await chain.admin.drop(first.to_0x_hex()) is True
    assert await chain.admin.drop(first.to_0x_hex()) is False

    await chain.admin.mine()
    assert await nonces(alice) == (0, 0)
    with pytest.raises(TransactionNotFound):
        await alice.web3.eth.get_transaction(first)
    await alice.send(SINK, nonce=0)
    assert await nonces(alice) == (0, 2)


# Fees


async def test_a_transaction_below_the_base_fee_waits_until_the_fee_falls(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_fees(base_fee=5_000_001)
    sent = await alice.send(SINK, maxFeePerGas=5_000_000)
    await chain.admin.mine()
    assert (await alice.web3.eth.get_transaction(sent))["blockNumber"] is None

    await chain.admin.set_fees(base_fee=5_000_000)
    await chain.admin.mine()

    assert (await alice.web3.eth.get_transaction_receipt(sent))["effectiveGasPrice"] == 5_000_000


async def test_a_node_can_refuse_what_is_below_the_base_fee(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_fees(base_fee=7, below_base_fee=BelowBaseFee.REFUSE)

    with pytest.raises(Web3RPCError, match=r"max fee per gas less than block base fee: .* maxFeePerGas: 6, baseFee: 7"):
        await alice.send(SINK, maxFeePerGas=6)


async def test_a_node_can_drop_what_is_below_the_base_fee(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_fees(base_fee=7, below_base_fee=BelowBaseFee.DROP)

    sent = await alice.send(SINK, maxFeePerGas=6)

    with pytest.raises(TransactionNotFound):
        await alice.web3.eth.get_transaction(sent)
    await alice.send(SINK, maxFeePerGas=8)
    assert len(await chain.admin.pool()) == 1
    await chain.admin.set_fees(base_fee=9)
    assert await chain.admin.pool() == ()
    assert await nonces(alice) == (0, 0)


async def test_the_fee_methods_agree(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_fees(base_fee=5_000_000, min_tip=1)

    assert await alice.web3.eth.gas_price == 5_000_001
    assert await alice.web3.eth.max_priority_fee == 1
    assert (await alice.web3.eth.get_block("latest"))["baseFeePerGas"] == 5_000_000
    history = await alice.web3.eth.fee_history(2, "latest", [50.0])
    assert history["baseFeePerGas"] == [0, 5_000_000, 5_000_000]


async def test_the_sender_pays_base_fee_and_tip_for_the_gas_used(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_fees(base_fee=100)
    await alice.send(SINK, gas=50_000, maxFeePerGas=1000, maxPriorityFeePerGas=7)
    await chain.admin.mine()

    assert await alice.web3.eth.get_balance(ALICE.address) == ONE_PLM - 21_000 * 107
    (mined,) = await chain.admin.transactions(ALICE.address)
    assert (mined.gas_price, mined.fee_wei) == (107, 21_000 * 107)


async def test_the_better_tip_goes_first(chain: DevChain, alice: Wallet, bob: Wallet) -> None:
    await alice.send(SINK, maxPriorityFeePerGas=1)
    await bob.send(SINK, maxPriorityFeePerGas=2)
    await chain.admin.mine()

    assert [mined.sender for mined in await chain.admin.transactions()] == [BOB.address, ALICE.address]


# Simulation


async def test_an_estimate_is_just_enough(chain: DevChain, alice: Wallet) -> None:
    gas = await alice.estimate(precompile(0x21), registration())

    enough = await alice.send(precompile(0x21), registration(), gas=gas)
    await chain.admin.mine()
    receipt = await alice.web3.eth.get_transaction_receipt(enough)
    assert (receipt["status"], receipt["gasUsed"]) == (1, gas)


async def test_one_gas_less_than_the_estimate_fails(chain: DevChain, alice: Wallet) -> None:
    gas = await alice.estimate(precompile(0x21), registration())

    short = await alice.send(precompile(0x21), registration(), gas=gas - 1)
    await chain.admin.mine()
    assert (await alice.web3.eth.get_transaction_receipt(short))["status"] == 0


async def test_an_estimate_of_what_fails_says_why(alice: Wallet) -> None:
    with pytest.raises(Web3RPCError, match="agent not registered"):
        await alice.estimate(precompile(0x22))


async def test_an_estimate_is_bound_by_what_the_sender_can_pay(alice: Wallet) -> None:
    poor = Wallet(alice.web3, Account.from_key(b"\xbb" * 32))

    with pytest.raises(Web3RPCError, match=r"gas required exceeds allowance \(0\)"):
        await poor.estimate(SINK, gas_price=1)


# Mining and reorganisation


async def test_instant_mining_has_the_receipt_before_the_answer(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_mining(MiningMode.INSTANT)

    assert (await alice.run(SINK))["blockNumber"] == 1


async def test_interval_mining_needs_nobody(chain: DevChain, alice: Wallet) -> None:
    sent = await alice.send(SINK)
    await chain.admin.set_mining(MiningMode.INTERVAL, interval_s=0.02)

    await chain.admin.wait_for(lambda: chain.admin.transactions(ALICE.address))

    assert (await alice.web3.eth.get_transaction_receipt(sent))["status"] == 1


async def test_an_empty_block_leaves_the_waiting_waiting(chain: DevChain, alice: Wallet) -> None:
    await alice.send(SINK)
    await chain.admin.mine(3, empty=True)

    status = await chain.admin.status()
    assert (status.height, status.waiting, status.executable) == (3, 1, 1)


async def test_a_reorganisation_returns_transactions_to_the_pool(chain: DevChain, alice: Wallet) -> None:
    sent = await alice.send(precompile(0x21), registration())
    await chain.admin.mine()
    before = await alice.web3.eth.get_block(1)

    await chain.admin.reorganise(1)

    assert await chain.admin.agents() == ()
    assert (await alice.web3.eth.get_block(1))["hash"] != before["hash"]
    assert await alice.web3.eth.block_number == 2
    assert (await alice.web3.eth.get_transaction(sent))["blockNumber"] is None
    with pytest.raises(TransactionNotFound):
        await alice.web3.eth.get_transaction_receipt(sent)
    assert await nonces(alice) == (0, 1)

    await chain.admin.mine()
    assert (await alice.web3.eth.get_transaction_receipt(sent))["blockNumber"] == 3
    assert len(await chain.admin.agents()) == 1


async def test_a_reorganisation_can_lose_transactions(chain: DevChain, alice: Wallet) -> None:
    sent = await alice.send(SINK)
    await chain.admin.mine()

    await chain.admin.reorganise(1, forget=True)

    assert await chain.admin.pool() == ()
    assert await nonces(alice) == (0, 0)
    with pytest.raises(TransactionNotFound):
        await alice.web3.eth.get_transaction(sent)


async def test_balances_and_time_are_what_the_test_says(chain: DevChain, alice: Wallet) -> None:
    await chain.admin.set_balance(SINK, 12)
    await chain.admin.fund(SINK, 3)
    assert await alice.web3.eth.get_balance(alice.web3.to_checksum_address(SINK)) == 15

    before = (await chain.admin.status()).timestamp
    await chain.admin.advance_clock(3600)
    assert (await chain.admin.status()).timestamp >= before + 3600


# Any history


@dataclass(frozen=True)
class Step:
    """Something that happens to a chain."""

    kind: str
    nonce: int
    fee_cap: int
    value: int


STEPS = st.builds(
    Step,
    kind=st.sampled_from(("send", "send", "send", "mine", "mine empty", "reorganise", "forget", "fee")),
    nonce=st.integers(0, 4),
    fee_cap=st.integers(0, 20),
    value=st.integers(0, ONE_PLM),
)
SIGNED: dict[tuple[int, int, int], bytes] = {}


def signed(step: Step) -> bytes:
    key = (step.nonce, step.fee_cap, step.value)
    if key not in SIGNED:
        SIGNED[key] = bytes(
            ALICE.sign_transaction(
                {
                    "chainId": CHAIN_ID,
                    "nonce": step.nonce,
                    "to": SINK,
                    "value": step.value,
                    "gas": 21_000,
                    "maxFeePerGas": step.fee_cap,
                    "maxPriorityFeePerGas": min(step.fee_cap, 3),
                }
            ).raw_transaction
        )
    return SIGNED[key]


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=14))
def test_no_history_loses_or_makes_money_or_nonces(steps: list[Step]) -> None:
    sender = bytes.fromhex(ALICE.address[2:])
    chain = Blockchain(lambda: 1_770_000_000, {sender: ONE_PLM}, conditions=Conditions())
    for step in steps:
        match step.kind:
            case "send":
                try:
                    chain.submit(signed(step))
                except RejectedError:
                    continue
            case "mine" | "mine empty":
                chain.mine(empty=step.kind == "mine empty")
            case "reorganise" | "forget":
                depth = min(step.nonce, len(chain.blocks) - 1)
                if depth:
                    chain.reorganise(depth, depth + 1, forget=step.kind == "forget")
            case _:
                chain.conditions.base_fee = step.fee_cap
        mined = [entry for _, entry in chain.transactions()]
        account = chain.account(sender)
        assert [entry.transaction.nonce for entry in mined] == list(range(account.nonce))
        assert account.balance == ONE_PLM - sum(
            entry.gas_used * entry.gas_price + entry.transaction.value for entry in mined
        )
        assert all(waiting.nonce >= account.nonce for waiting in chain.pool)
        assert all(
            chain.blocks[at].header.parent_hash == chain.blocks[at - 1].hash for at in range(1, len(chain.blocks))
        )


# The same against a real anvil, where there is one


@pytest.fixture(params=plain_nodes())
async def plain(request: pytest.FixtureRequest) -> AsyncIterator[Wallet]:
    async with plain_node(request.param) as node, connected(node.url) as web3:
        await node.fund(ALICE.address, ONE_PLM)
        yield Wallet(web3, ALICE)


async def test_a_plain_node_mines_both_kinds_of_transactions(plain: Wallet) -> None:
    assert await plain.web3.eth.chain_id == CHAIN_ID
    for nonce, fees in enumerate(({"gasPrice": 10}, {"maxFeePerGas": 10, "maxPriorityFeePerGas": 1})):
        sent = await plain.send(SINK, b"", nonce=nonce, value=5, gas=21_000, **fees)
        receipt = await plain.web3.eth.wait_for_transaction_receipt(sent, timeout=20, poll_latency=0.05)
        assert (receipt["status"], receipt["gasUsed"]) == (1, 21_000)
        transaction = await plain.web3.eth.get_transaction(sent)
        assert (transaction["nonce"], transaction["value"], transaction["from"]) == (nonce, 5, ALICE.address)


async def test_a_plain_node_refuses_a_used_nonce(plain: Wallet) -> None:
    sent = await plain.send(SINK, nonce=0, maxFeePerGas=10)
    await plain.web3.eth.wait_for_transaction_receipt(sent, timeout=20, poll_latency=0.05)

    with pytest.raises(Web3RPCError, match="nonce too low"):
        await plain.send(SINK, nonce=0, value=1, maxFeePerGas=10)


async def test_a_plain_node_keeps_a_future_nonce(plain: Wallet) -> None:
    sent = await plain.send(SINK, nonce=1, maxFeePerGas=10)
    assert (await plain.web3.eth.get_transaction(sent))["blockNumber"] is None
    assert await plain.web3.eth.get_transaction_count(ALICE.address, "pending") == 0

    with pytest.raises(Web3RPCError, match="replacement transaction underpriced"):
        await plain.send(SINK, nonce=1, value=1, maxFeePerGas=10)


async def test_a_plain_node_refuses_a_sender_without_money(plain: Wallet) -> None:
    poor = Wallet(plain.web3, Account.from_key(b"\xbb" * 32))

    with pytest.raises(Web3RPCError, match=r"(?i)insufficient funds for gas \* price \+ value"):
        await poor.send(SINK, maxFeePerGas=10)


async def test_a_plain_node_shows_blocks_as_web3_reads_them(plain: Wallet) -> None:
    sent = await plain.send(SINK, maxFeePerGas=10)
    receipt = await plain.web3.eth.wait_for_transaction_receipt(sent, timeout=20, poll_latency=0.05)
    block = await plain.web3.eth.get_block(receipt["blockHash"], full_transactions=True)

    assert block["number"] == receipt["blockNumber"]
    (shown,) = block["transactions"]
    assert not isinstance(shown, bytes)
    assert shown["hash"] == sent
    assert block == await plain.web3.eth.get_block(receipt["blockNumber"], full_transactions=True)
