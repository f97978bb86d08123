"""The node's wallet: locked against a second daemon, opened once at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised.chain.password import Password, read_password_credential, read_password_file
from plumised.chain.wallet import Wallet, open_wallet
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from plumised.config import WalletSettings
    from plumised.observe.redaction import Redactor


class PasswordSourceError(OperatorError):
    """The configuration does not say where the keystore's password comes from."""

    code = "wallet-password-source"


def open_identity(settings: WalletSettings, credentials: Path | None, redactor: Redactor) -> Wallet:
    """Decrypt the keystore. Takes a second and 256 MiB for that time, on purpose; not for the event loop's thread.

    Args:
        settings: which keystore, and where its password is.
        credentials: the directory of systemd credentials, or None.
        redactor: is told the password, so that no log line ever shows it.

    Raises:
        OperatorError: the keystore or the password is missing, unsafe or wrong.
    """
    password = _password(settings, credentials)
    redactor.register(password.reveal())
    return open_wallet(settings.keystore, password)


def _password(settings: WalletSettings, credentials: Path | None) -> Password:
    if settings.password_file is not None:
        return read_password_file(settings.password_file)
    if settings.password_credential is not None:
        return read_password_credential(settings.password_credential, credentials)
    raise PasswordSourceError(
        f"Nothing says where the password of the keystore {settings.keystore} is",
        "Set wallet.password_credential (with LoadCredential= in the unit) or wallet.password_file.",
    )
