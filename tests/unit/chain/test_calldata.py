from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from plumised.chain import calldata
from plumised.chain.addresses import AGENT_REGISTRY

AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
AGENT_WORD = "000000000000000000000000" + AGENT[2:].lower()

words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


def test_registration_is_the_golden_vector() -> None:
    assert calldata.register_agent("bloom-560m-E4855A4F") == bytes.fromhex(
        "626c6f6f6d2d3536306d2d4534383535413446"
    ) + bytes(96 - 19)


def test_registration_lists_its_capabilities_and_beneficiary() -> None:
    data = calldata.register_agent("n", b"\x01" * 32, [b"\x02" * 32, b"\x03" * 32], AGENT)

    assert data.hex() == "".join(("6e".ljust(64, "0"), "01" * 32, "2".rjust(64, "0"), "02" * 32, "03" * 32, AGENT_WORD))


@pytest.mark.parametrize("name", ["", "x" * 33, "é" * 17])
def test_registration_name_that_does_not_fit_a_word_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 32 bytes"):
        calldata.register_agent(name)


def test_heartbeat_is_empty_or_names_the_agent() -> None:
    assert calldata.heartbeat() == b""
    assert calldata.heartbeat(AGENT).hex() == AGENT_WORD


def test_claim_is_empty_or_names_the_agent() -> None:
    assert calldata.claim_reward() == b""
    assert calldata.claim_reward(AGENT).hex() == AGENT_WORD


@given(words, words, words, addresses, st.integers(1, 2**256 - 1))
def test_inference_is_five_words(model: bytes, inputs: bytes, outputs: bytes, agent: str, tokens: int) -> None:
    data = calldata.verify_inference(model, inputs, outputs, agent, tokens)

    assert data == encode(
        ["bytes32", "bytes32", "bytes32", "address", "uint256"], [model, inputs, outputs, agent, tokens]
    )


def test_inference_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        calldata.verify_inference(bytes(32), bytes(32), bytes(32), AGENT, 0)


@pytest.mark.parametrize(
    ("selector", "signature"),
    [
        (calldata.GET_PENDING_REWARD, "getPendingReward(address)"),
        (calldata.CLAIM_REWARD, "claimReward()"),
        (calldata.GET_CONTRIBUTION, "getContribution(address)"),
        (calldata.GET_CURRENT_EPOCH, "getCurrentEpoch()"),
        (calldata.REGISTRY_REGISTER_AGENT, "registerAgent(bytes32,string)"),
        (calldata.REGISTRY_HEARTBEAT, "heartbeat()"),
        (calldata.REGISTRY_IS_REGISTERED, "isRegistered(address)"),
        (calldata.REGISTRY_IS_ACTIVE, "isActive(address)"),
    ],
)
def test_selector_is_that_of_its_signature(selector: bytes, signature: str) -> None:
    assert selector == keccak(text=signature)[:4]


@given(words, st.text(max_size=100))
def test_registry_registration_is_solidity_abi(identifier: bytes, text: str) -> None:
    data = calldata.registry_register_agent(identifier, text)
    assert data == calldata.REGISTRY_REGISTER_AGENT + encode(["bytes32", "string"], [identifier, text])


@given(addresses)
def test_call_of_an_address_is_selector_and_word(address: str) -> None:
    assert calldata.of_address(calldata.GET_CONTRIBUTION, address) == calldata.GET_CONTRIBUTION + encode(
        ["address"], [address]
    )


@pytest.mark.parametrize("address", ["0x", "0x12", "ff" * 21])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        calldata.address_word(address)


def test_registry_address_is_checksummed() -> None:
    assert AGENT_REGISTRY.lower() == "0xc9cf64344d22f02f6cdb8e7b5349f30e09f9043c"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("bigscience/bloom-560m", "bloom-560m-E4855A4F"),
        ("/var/lib/models/Smol LM2/", "Smol-LM2-E4855A4F"),
        ("org/a-model-whose-name-has-many-characters", "a-model-whose-name-has-E4855A4F"),
        ("模型", "E4855A4F"),
        ("", "E4855A4F"),
    ],
)
def test_registration_name_is_short_model_and_end_of_address(model: str, name: str) -> None:
    assert calldata.registration_name(model, AGENT) == name


@given(st.text(), addresses)
def test_every_model_gives_a_name_that_can_be_registered(model: str, agent: str) -> None:
    calldata.register_agent(calldata.registration_name(model, agent))


@given(st.lists(st.integers(0, 2**256 - 1), min_size=1, max_size=6))
def test_words_are_read_back(values: list[int]) -> None:
    answer = b"".join(map(calldata.uint_word, values))
    assert calldata.read_words(answer, len(values)) == tuple(values)
    assert calldata.read_words(answer[:-1], len(values)) is None


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [(bytes(32), False), (bytes(31) + b"\x01", True), (bytes(31) + b"\x02", None), (b"", None)],
)
def test_truth_is_read_only_from_what_is_one(answer: bytes, meaning: bool | None) -> None:
    assert calldata.read_bool(answer) is meaning


def test_model_is_named_by_the_hash_of_its_name() -> None:
    assert calldata.model_hash("bigscience/bloom-560m") == keccak(b"bigscience/bloom-560m")
