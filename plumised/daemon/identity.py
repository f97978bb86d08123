"""The node's wallet: locked against a second daemon, opened once at the start."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from plumised.chain.keystore import WrongPasswordError, read_keystore
from plumised.chain.password import (
    Password,
    PasswordEmptyError,
    read_password_credential,
    read_password_file,
    read_successor,
)
from plumised.chain.secret_files import CREDENTIAL, SecretFileMissingError
from plumised.chain.wallet import Wallet, open_wallet
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from plumised.config import WalletSettings
    from plumised.observe.redaction import Redactor

_log: Final = logging.getLogger(__name__)


class PasswordSourceError(OperatorError):
    """Nothing says where the keystore's password comes from."""

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
    # Who has no wallet yet has no password either, and is to be told of the wallet.
    read_keystore(settings.keystore)
    present, *successor = _passwords(settings, credentials)
    for password in (present, *successor):
        redactor.register(password.reveal())
    try:
        return open_wallet(settings.keystore, present)
    except WrongPasswordError:
        if not successor:
            raise
    wallet = open_wallet(settings.keystore, successor[0])
    _log.warning("a change of the wallet's password was cut off; plumised wallet store-password completes it")
    return wallet


def _passwords(settings: WalletSettings, credentials: Path | None) -> tuple[Password, ...]:
    """What may open the keystore: the password, and the one that a change which was cut off left beside it."""
    file, name = settings.password_file, settings.password_credential
    if file is not None:
        return _either(lambda: read_password_file(file), read_successor(file))
    if credentials is None:
        raise PasswordSourceError(
            f"Nothing says where the password of the keystore {settings.keystore} is: wallet.password_file is not set, "
            "and there is no credential from systemd",
            "Start the node with systemctl, or set wallet.password_file.",
        )
    successor = read_successor(credentials / name, forbidden=CREDENTIAL)
    return _either(lambda: read_password_credential(name, credentials), successor)


def _either(read_present: Callable[[], Password], successor: Password | None) -> tuple[Password, ...]:
    if successor is None:
        return (read_present(),)
    try:
        return read_present(), successor
    except (PasswordEmptyError, SecretFileMissingError):
        return (successor,)
