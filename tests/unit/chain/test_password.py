from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from plumised.chain.password import Password, PasswordError, read_password_credential, read_password_file
from plumised.chain.secret_files import SecretFileError, SecretFileExposedError, SecretFileMissingError

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b" s p \n", " s p "),
        (b"\n\n", "\n"),
    ],
)
def test_one_line_feed_at_the_end_is_not_part_of_the_password(tmp_path: Path, content: bytes, password: str) -> None:
    assert read_password_file(write(tmp_path / "password", content)).reveal() == password


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_file_without_a_password_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(PasswordError):
        read_password_file(write(tmp_path / "password", content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o444])
def test_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(SecretFileExposedError):
        read_password_file(write(tmp_path / "password", b"secret", mode))


def test_file_longer_than_any_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="longer than 4096 bytes"):
        read_password_file(write(tmp_path / "password", b"x" * 4097))


def test_directory_is_not_a_password(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="not a regular file"):
        read_password_file(tmp_path)


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_credential_is_read_as_systemd_leaves_it(tmp_path: Path, mode: int) -> None:
    write(tmp_path / "wallet", b"secret\n", mode)
    assert read_password_credential("wallet", tmp_path).reveal() == "secret"


@pytest.mark.parametrize("mode", [0o444, 0o460])
def test_credential_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    write(tmp_path / "wallet", b"secret", mode)
    with pytest.raises(SecretFileExposedError):
        read_password_credential("wallet", tmp_path)


def test_missing_credential_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretFileMissingError, match="wallet"):
        read_password_credential("wallet", tmp_path)


def test_process_without_credentials_says_what_the_unit_needs() -> None:
    with pytest.raises(SecretFileError, match="LoadCredential=wallet"):
        read_password_credential("wallet", None)


@pytest.mark.parametrize("name", ["", ".", "..", "../etc/shadow", "a/b"])
def test_credential_cannot_lead_out_of_its_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(SecretFileError, match="cannot be the name"):
        read_password_credential(name, tmp_path)


def test_password_does_not_show_itself() -> None:
    password = Password("secret")
    assert "secret" not in f"{password!r} {password}"
