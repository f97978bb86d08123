from __future__ import annotations

import json

import pytest
from eth_keyfile.keyfile import create_keyfile_json
from hypothesis import assume, given
from hypothesis import strategies as st

from plumised.observe.redaction import REDACTED, SHORTEST_VALUE, Redactor

KEY = "46" * 32


@pytest.mark.parametrize(
    "text",
    [
        f"private key 0x{KEY}",
        f"private_key={KEY}",
        f"privateKey: 0x{KEY.upper()}",
        f'{{"private_key": "0x{KEY}"}}',
        f"the secret is 0x{KEY}",
        f"key: 0x{KEY}",
        f"SEED={KEY}",
    ],
)
def test_a_key_after_a_word_for_it_is_replaced(text: str) -> None:
    assert KEY not in Redactor().redact(text).lower()


@pytest.mark.parametrize("text", [f"transaction 0x{KEY} was mined", f"block hash {KEY}", "the key to it is patience"])
def test_hashes_and_ordinary_words_stay(text: str) -> None:
    assert Redactor().redact(text) == text


@pytest.mark.parametrize("dump", [json.dumps, repr, lambda keystore: json.dumps(json.dumps(keystore))])
def test_what_a_keystore_encrypts_is_replaced(dump: object) -> None:
    assert callable(dump)
    keystore = create_keyfile_json(bytes.fromhex(KEY), b"password", iterations=2)

    assert keystore["crypto"]["ciphertext"] not in Redactor().redact(dump(keystore))


@pytest.mark.parametrize(
    "text", ["password=hunter22", 'password: "hunter22 x"', "{'password': 'hunter22'}", "passphrase = hunter22;"]
)
def test_a_password_that_is_assigned_is_replaced(text: str) -> None:
    assert "hunter22" not in Redactor().redact(text)


def test_credentials_in_a_url_are_replaced_and_its_host_stays() -> None:
    assert Redactor().redact("GET https://me:hunter2@rpc.example/v1") == f"GET https://{REDACTED}@rpc.example/v1"


def test_a_registered_value_is_replaced_with_and_without_0x_in_any_case() -> None:
    redactor = Redactor()
    redactor.register(f"0x{KEY}ab")

    assert redactor.redact(f"a 0x{KEY}AB b {KEY}ab c") == f"a {REDACTED} b {REDACTED} c"


def test_of_values_within_each_other_the_longest_is_replaced() -> None:
    redactor = Redactor()
    redactor.register("secret", "secret-longer")

    assert redactor.redact("secret-longer") == REDACTED


@given(st.text(min_size=SHORTEST_VALUE), st.text(), st.text())
def test_no_registered_value_is_left(value: str, before: str, after: str) -> None:
    assume(len(value.removeprefix("0x")) >= SHORTEST_VALUE)
    redactor = Redactor()
    redactor.register(value)

    left = redactor.redact(f"{before}{value}{after}")

    assert value not in left.replace(REDACTED, "\0\1")


@given(st.text())
def test_any_text_can_be_redacted(text: str) -> None:
    redactor = Redactor()
    redactor.register("")

    assert isinstance(redactor.redact(text), str)
