from __future__ import annotations

import errno
import json
import os
import pickle
import stat
from typing import TYPE_CHECKING

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from plumised.chain.fees import DynamicFee, LegacyFee
from plumised.chain.keystore import WalletDamagedError, WalletMissingError, WrongPasswordError
from plumised.chain.password import Password
from plumised.chain.secret_files import SecretFileError, SecretFileExistsError, SecretFileExposedError
from plumised.chain.wallet import (
    KeyUnusableError,
    TransactionFields,
    Wallet,
    change_password,
    create_keystore,
    export_key,
    import_key,
    open_wallet,
    read_address,
)
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes([0x46]) * 32
AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
PASSWORD = Password("correct horse")
CHEAP = 2


def make_keystore(directory: Path) -> Path:
    path = directory / "keystore.json"
    import_key(path, KEY.hex(), PASSWORD, scrypt_n=CHEAP)
    return path


def alter(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_created_keystore_opens_to_its_own_address(tmp_path: Path) -> None:
    path = tmp_path / "keystore.json"

    address = create_keystore(path, PASSWORD, scrypt_n=CHEAP)

    assert open_wallet(path, PASSWORD).address == address == read_address(path)


def test_two_created_keystores_hold_different_keys(tmp_path: Path) -> None:
    first = create_keystore(tmp_path / "first", PASSWORD, scrypt_n=CHEAP)
    assert create_keystore(tmp_path / "second", PASSWORD, scrypt_n=CHEAP) != first


def test_keystore_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    assert stat.S_IMODE(make_keystore(tmp_path).stat().st_mode) == 0o600


def test_missing_directory_is_made_private(tmp_path: Path) -> None:
    path = make_keystore(tmp_path / "wallet")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_keystore_is_web3_secret_storage_that_other_software_opens(tmp_path: Path) -> None:
    document = json.loads(make_keystore(tmp_path).read_text())

    assert document["version"] == 3
    assert document["crypto"]["kdf"] == "scrypt"
    assert Account.decrypt(document, PASSWORD.reveal()) == KEY


def test_keystore_of_other_software_opens(tmp_path: Path) -> None:
    path = tmp_path / "keystore.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PASSWORD.reveal(), kdf="pbkdf2", iterations=10)))
    path.chmod(0o600)

    assert open_wallet(path, PASSWORD).address == AGENT


def test_keystore_with_capitalised_keys_opens(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)
    document = json.loads(path.read_text())
    document["Crypto"] = {key.upper(): value for key, value in document.pop("crypto").items()}
    path.write_text(json.dumps(document))

    assert open_wallet(path, PASSWORD).address == AGENT


def test_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keystore.json"
    path.write_text("precious")

    with pytest.raises(SecretFileExistsError, match="not overwritten"):
        create_keystore(path, PASSWORD, scrypt_n=CHEAP)

    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", [KEY.hex(), "0x" + KEY.hex(), f"  {KEY.hex().upper()}\n"])
def test_key_is_imported_as_people_write_it(tmp_path: Path, text: str) -> None:
    assert import_key(tmp_path / "keystore.json", text, PASSWORD, scrypt_n=CHEAP) == AGENT


@pytest.mark.parametrize("text", ["", "0x", "46" * 31, "46" * 33, "zz" * 32, "00" * 32, "ff" * 32])
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(KeyUnusableError) as refusal:
        import_key(tmp_path / "keystore.json", text, PASSWORD, scrypt_n=CHEAP)

    assert not text or text not in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_wrong_password_is_the_operators_to_correct(tmp_path: Path) -> None:
    with pytest.raises(WrongPasswordError, match="does not open") as refusal:
        open_wallet(make_keystore(tmp_path), Password("hunter2"))

    assert isinstance(refusal.value, OperatorError)
    assert "hunter2" not in str(refusal.value)


def test_missing_keystore_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WalletMissingError, match="plumised wallet create"):
        open_wallet(tmp_path / "keystore.json", PASSWORD)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_keystore_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = make_keystore(tmp_path)
    path.chmod(mode)

    with pytest.raises(SecretFileExposedError, match="chmod 600"):
        open_wallet(path, PASSWORD)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_keystore_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)
    os.chown(path, 12345, 12345)

    with pytest.raises(SecretFileExposedError, match="belongs to user id 12345"):
        open_wallet(path, PASSWORD)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_keystore_made_by_root_belongs_to_the_owner_of_its_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)

    path = make_keystore(tmp_path / "wallet")

    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)
    assert read_address(path) == AGENT


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 3}', "\x00", "[" * 20_000])
def test_file_that_is_no_keystore_is_called_damaged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keystore.json"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(WalletDamagedError, match=r"keystore\.json is not a usable web3 v3 keystore"):
        open_wallet(path, PASSWORD)


def test_keystore_of_another_version_is_called_damaged(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)
    alter(path, version=4)

    with pytest.raises(WalletDamagedError, match="version"):
        open_wallet(path, PASSWORD)


def test_keystore_that_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)
    crypto = json.loads(path.read_text())["crypto"]
    crypto["kdfparams"]["n"] = 1 << 40
    alter(path, crypto=crypto)

    with pytest.raises(WalletDamagedError, match="1 GiB"):
        open_wallet(path, PASSWORD)


def test_keystore_whose_address_is_not_that_of_its_key_is_refused(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)
    alter(path, address="aa" * 20)

    with pytest.raises(WalletDamagedError, match=AGENT):
        open_wallet(path, PASSWORD)


def test_fifo_in_place_of_the_keystore_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "keystore.json"
    os.mkfifo(path, 0o600)

    with pytest.raises(OperatorError, match="not a regular file"):
        open_wallet(path, PASSWORD)


def test_text_is_signed_as_personal_sign() -> None:
    text = '{"agent":"0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F","processed_tokens":12345,"timestamp":1770000000}'

    assert Wallet(KEY).sign_text(text) == (
        "0x961fdd56cbdafcc90358b20850af35a3c75f0a5573e8b89bb8baa8693e9a6f33"
        "389d1bc60cff55427cffc138fc4a649d523638e3b4ef508f9d312d43fbd1f5941c"
    )


def test_signature_of_any_unicode_text_recovers_to_the_agent() -> None:
    signature = Wallet(KEY).sign_text("Größe ≥ 1 — 節点")
    assert Account.recover_message(encode_defunct(text="Größe ≥ 1 — 節点"), signature=signature) == AGENT


@pytest.mark.parametrize("fee", [LegacyFee(5_000_001), DynamicFee(max_fee=10_000_002, tip=1), LegacyFee(0)])
def test_signed_transaction_recovers_to_the_agent(fee: LegacyFee | DynamicFee) -> None:
    fields = TransactionFields(
        chain_id=41956, nonce=7, to="0x" + "0" * 38 + "22", data=b"\x01", gas=100_000, fee=fee, value=0
    )

    signed = Wallet(KEY).sign_transaction(fields)

    assert Account.recover_transaction(signed.raw) == AGENT
    assert signed.hash.startswith("0x")
    assert len(signed.hash) == 66


def test_wallet_shows_nothing_but_its_address() -> None:
    wallet = Wallet(KEY)
    assert repr(wallet) == str(wallet) == f"Wallet({AGENT})"


@pytest.mark.parametrize("secret", [Wallet(KEY), PASSWORD])
def test_secrets_are_not_serialised(secret: object) -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(secret)


def test_exported_key_is_the_one_that_was_imported(tmp_path: Path) -> None:
    assert export_key(make_keystore(tmp_path), PASSWORD) == "0x" + KEY.hex()


def test_changed_password_opens_the_same_wallet_and_the_old_one_does_not(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)

    assert change_password(path, PASSWORD, Password("battery staple"), scrypt_n=CHEAP) == AGENT

    assert open_wallet(path, Password("battery staple")).address == AGENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(WrongPasswordError):
        open_wallet(path, PASSWORD)


def test_wrong_password_changes_nothing(tmp_path: Path) -> None:
    path = make_keystore(tmp_path)
    before = path.read_bytes()

    with pytest.raises(WrongPasswordError):
        change_password(path, Password("wrong"), Password("battery staple"), scrypt_n=CHEAP)

    assert path.read_bytes() == before


def test_keystore_that_cannot_be_replaced_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_keystore(tmp_path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("plumised.chain.secret_files.os.fsync", full)
    with pytest.raises(SecretFileError, match="No space left"):
        change_password(path, PASSWORD, Password("battery staple"), scrypt_n=CHEAP)

    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
