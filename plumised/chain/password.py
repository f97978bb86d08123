"""The keystore's password, and the two places that it may come from without passing through argv or the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from plumised.chain.secret_files import (
    CREDENTIAL,
    PRIVATE,
    SecretFileError,
    SecretFileMissingError,
    read_secret_file,
)

if TYPE_CHECKING:
    from pathlib import Path

SUCCESSOR: Final = ".next"
"""After the name of a password's file or credential: the password that is to follow it, while it is being changed."""

_LONGEST = 4096


class PasswordError(SecretFileError):
    """What was given as a password cannot be one."""

    code = "wallet-password-unusable"


class PasswordEmptyError(PasswordError):
    """There is a place for the password, and nothing in it."""


class Password:
    """A password that shows itself to nobody who does not ask for it by name.

    Raises:
        PasswordError: the text is empty.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not text:
            raise PasswordError("The keystore's password is empty", "Give a password of at least one character.")
        self._text = text

    def __repr__(self) -> str:
        return "Password(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Password) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Password, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a password is not serialised")

    def reveal(self) -> str:
        """Return the text, for the key derivation and for the log's redaction."""
        return self._text


def read_password_file(path: Path) -> Password:
    """Return the password in a file of UTF-8 text, less one line feed at its end.

    Raises:
        SecretFileError: the file is missing, not private to this account, not a file, or too long.
        PasswordError: it is empty or not UTF-8.
    """
    remedy = "Write the keystore's password into it."
    return _password(read_secret_file(path, limit=_LONGEST, forbidden=PRIVATE), f"Password file {path}", remedy)


def read_password_credential(name: str, directory: Path | None) -> Password:
    """Return the password in a systemd credential, less one line feed at its end.

    Args:
        name: the credential's name, as in `LoadCredential=` or `LoadCredentialEncrypted=` of the unit.
        directory: what systemd gave the service as `$CREDENTIALS_DIRECTORY`; None where it gave nothing.

    Raises:
        SecretFileError: the credential is missing or readable by others.
        PasswordError: it is empty or not UTF-8.
    """
    remedy = f"Add LoadCredential={name}:/path/to/password to the unit (systemctl edit plumised)."
    if directory is None:
        raise SecretFileError(f"There is no credential {name!r}: this process got none from systemd", remedy)
    if not name or "/" in name or name in {".", ".."}:
        raise SecretFileError(f"{name!r} cannot be the name of a credential", remedy)
    content = read_secret_file(directory / name, limit=_LONGEST, forbidden=CREDENTIAL)
    return _password(content, f"Credential {name!r}", _STORE)


def read_successor(present: Path, *, forbidden: int = PRIVATE) -> Password | None:
    """Return the password that is to follow the one in the file or credential `present`; None where there is none.

    There is one while `plumised wallet change-password` runs, and after it was cut off. Then one of the two opens the
    keystore.

    Args:
        present: the file, or the credential in its directory.
        forbidden: mode bits that the file must not have.

    Raises:
        SecretFileError: it is not private to this account, not a file, or too long.
        PasswordError: it is not UTF-8.
    """
    path = present.with_name(present.name + SUCCESSOR)
    try:
        return _password(read_secret_file(path, limit=_LONGEST, forbidden=forbidden), f"Password file {path}", _STORE)
    except (SecretFileMissingError, PasswordEmptyError):
        return None


_STORE = "Run plumised wallet store-password as root, with --instance NAME for plumised@NAME.service."


def _password(content: bytes, source: str, remedy: str) -> Password:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise PasswordError(f"{source} is not UTF-8 text", "Write the password as text.") from None
    text = text.removesuffix("\n")
    if not text:
        raise PasswordEmptyError(f"{source} is empty", remedy)
    return Password(text)
