from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from plumised.chain.keystore import WalletMissingError, WrongPasswordError
from plumised.chain.password import Password
from plumised.chain.secret_files import SecretFileError, SecretFileExistsError
from plumised.chain.stored_password import StoredPassword
from plumised.chain.wallet import create_keystore, open_wallet
from plumised.config import WalletSettings
from plumised.daemon.identity import PasswordSourceError, open_identity
from plumised.observe.redaction import Redactor

ROOT = Path(__file__).parents[3]
CHEAP = 2
OLD, NEW = Password("correct horse"), Password("battery staple")
PATIENCE_S = 60
KILLED = 9

PROGRAM = """
import os, sys
from pathlib import Path
from plumised.chain.password import Password
from plumised.chain.stored_password import StoredPassword
from plumised.chain.wallet import change_password, create_keystore, open_wallet

keystore, stored, action = Path(sys.argv[1]), StoredPassword(Path(sys.argv[2])), sys.argv[3]
left = int(sys.argv[4])
old, new = Password("correct horse"), Password("battery staple")

def die(event, arguments):
    global left
    if event in {"os.rename", "os.link", "os.remove", "open"} and str(keystore.parent) in str(arguments):
        left -= 1
        if left < 0:
            os._exit(9)

sys.addaudithook(die)
if action == "create":
    with stored.following(new, present=None):
        create_keystore(keystore, new, scrypt_n=2)
else:
    open_wallet(keystore, old)
    with stored.following(new, present=old):
        change_password(keystore, old, new, scrypt_n=2)
"""


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    return tmp_path / "keystore.json"


@pytest.fixture
def stored(tmp_path: Path) -> StoredPassword:
    return StoredPassword(tmp_path / "node.password")


def cut_off(keystore: Path, stored: StoredPassword, action: str, operations: int) -> bool:
    """Have another process do it and die before its next file operation after so many; whether it died."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, keystore, stored.path, action, str(operations)],
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode in {0, KILLED}
    return done.returncode == KILLED


def opened_by_the_daemon(keystore: Path, stored: StoredPassword) -> str:
    settings = WalletSettings.model_validate({"keystore": str(keystore), "password_file": str(stored.path)})
    return open_identity(settings, None, Redactor()).address


def test_a_change_that_dies_anywhere_leaves_a_wallet_that_the_daemon_opens(tmp_path: Path) -> None:
    operations = 0
    while True:
        directory = tmp_path / str(operations)
        directory.mkdir(mode=0o700)
        keystore, stored = directory / "keystore.json", StoredPassword(directory / "node.password")
        address = create_keystore(keystore, OLD, scrypt_n=CHEAP)
        stored.put(OLD)

        died = cut_off(keystore, stored, "change", operations)

        assert opened_by_the_daemon(keystore, stored) == address
        if not died:
            break
        operations += 1
    assert operations > 5
    assert open_wallet(keystore, NEW).address == address


def test_a_creation_that_dies_anywhere_leaves_no_wallet_or_one_that_the_daemon_opens(tmp_path: Path) -> None:
    operations = 0
    while True:
        directory = tmp_path / str(operations)
        directory.mkdir(mode=0o700)
        keystore, stored = directory / "keystore.json", StoredPassword(directory / "node.password")

        died = cut_off(keystore, stored, "create", operations)

        if keystore.exists():
            assert opened_by_the_daemon(keystore, stored) == open_wallet(keystore, NEW).address
        if not died:
            break
        operations += 1
    assert operations > 3
    assert keystore.exists()


def test_a_second_change_after_one_that_died_does_not_lose_what_opens_the_keystore(
    keystore: Path, stored: StoredPassword
) -> None:
    address = create_keystore(keystore, NEW, scrypt_n=CHEAP)
    stored.put(OLD)
    put_successor(stored, NEW)

    with stored.following(Password("third"), present=NEW):
        assert opened_by_the_daemon(keystore, stored) == address


def test_a_change_leaves_one_private_file_with_the_new_password(stored: StoredPassword) -> None:
    stored.put(OLD)

    with stored.following(NEW, present=OLD):
        pass

    assert stored.path.read_text(encoding="utf-8") == "battery staple\n"
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o600
    assert list(stored.path.parent.iterdir()) == [stored.path]


def test_a_change_that_fails_keeps_both(stored: StoredPassword) -> None:
    stored.put(OLD)

    with pytest.raises(RuntimeError), stored.following(NEW, present=OLD):
        raise RuntimeError

    assert stored.path.read_text(encoding="utf-8") == "correct horse\n"
    assert len(list(stored.path.parent.iterdir())) == 2


def test_what_cannot_be_stored_is_told_before_anything_changes(tmp_path: Path) -> None:
    stored = StoredPassword(tmp_path / "missing/node.password")

    with pytest.raises(SecretFileError, match="missing"), stored.following(NEW, present=OLD):
        pytest.fail("the keystore would have been changed")


def test_another_wallets_password_is_not_overwritten(stored: StoredPassword) -> None:
    stored.put(OLD)

    stored.refuse_another(OLD)
    with pytest.raises(SecretFileExistsError, match="holds another password"):
        stored.refuse_another(NEW)


def test_storing_ends_a_change_that_was_cut_off(stored: StoredPassword) -> None:
    put_successor(stored, NEW)
    assert stored.exists()

    stored.put(OLD)

    assert list(stored.path.parent.iterdir()) == [stored.path]


def put_successor(stored: StoredPassword, password: Password) -> None:
    StoredPassword(stored.path.with_name(stored.path.name + ".next")).put(password)


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """As the unit leaves them where there is no password: a line feed each."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    for name in ("wallet-password", "wallet-password.next"):
        credential(directory, name, "\n")
    return directory


def credential(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content, encoding="utf-8")
    (directory / name).chmod(0o400)


def identity(keystore: Path, credentials: Path | None) -> str:
    settings = WalletSettings.model_validate({"keystore": str(keystore)})
    return open_identity(settings, credentials, Redactor()).address


def test_who_has_no_wallet_is_told_of_the_wallet(keystore: Path, credentials: Path) -> None:
    with pytest.raises(WalletMissingError, match="There is no keystore") as caught:
        identity(keystore, credentials)

    assert "plumised wallet create" in caught.value.remedy


def test_who_has_a_wallet_and_no_password_is_told_how_to_store_it(keystore: Path, credentials: Path) -> None:
    create_keystore(keystore, OLD, scrypt_n=CHEAP)

    with pytest.raises(SecretFileError, match="'wallet-password' is empty") as caught:
        identity(keystore, credentials)

    assert "plumised wallet store-password" in caught.value.remedy


def test_who_is_not_started_by_systemd_is_told_of_the_password_file(keystore: Path) -> None:
    create_keystore(keystore, OLD, scrypt_n=CHEAP)

    with pytest.raises(PasswordSourceError) as caught:
        identity(keystore, None)

    assert "wallet.password_file" in caught.value.remedy


@pytest.mark.parametrize(
    ("present", "successor"),
    [("correct horse\n", "\n"), ("wrong\n", "correct horse\n"), ("\n", "correct horse\n"), ("correct horse\n", "x\n")],
)
def test_the_password_or_its_successor_opens_the_keystore(
    keystore: Path, credentials: Path, present: str, successor: str
) -> None:
    address = create_keystore(keystore, OLD, scrypt_n=CHEAP)
    credential(credentials, "wallet-password", present)
    credential(credentials, "wallet-password.next", successor)

    assert identity(keystore, credentials) == address


def test_two_wrong_passwords_are_a_wrong_password(keystore: Path, credentials: Path) -> None:
    create_keystore(keystore, OLD, scrypt_n=CHEAP)
    credential(credentials, "wallet-password", "wrong\n")
    credential(credentials, "wallet-password.next", "wrong, too\n")

    with pytest.raises(WrongPasswordError):
        identity(keystore, credentials)
