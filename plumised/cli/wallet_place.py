"""Which wallet an action is about: its keystore, and where the service has its password from."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from typing import TYPE_CHECKING

from plumised.chain.secret_files import SecretFileError, SecretFileExistsError
from plumised.chain.stored_password import StoredPassword
from plumised.cli.config_file import choice
from plumised.config.sections.wallet import PASSWORD_CREDENTIAL

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

    from plumised.cli.config_file import ConfigChoice
    from plumised.config import Settings

SERVICE_USER = "plumise"
"""User= of the units."""

STATE_MODE = 0o750


@dataclass(frozen=True, slots=True)
class WalletPlace:
    """A wallet and what belongs to it.

    Attributes:
        keystore: the encrypted key.
        state_dir: the service's directory that the keystore is in, to be made where it is missing; None for a keystore
            that is not the service's.
        unit: of the package, which takes this wallet; None where it is no such unit's.
        password_file: that the daemon reads by itself.
        deposit: where the unit has the password from, for root to fill.
    """

    keystore: Path
    state_dir: Path | None = None
    unit: str | None = None
    password_file: StoredPassword | None = None
    deposit: StoredPassword | None = None

    @property
    def stored(self) -> StoredPassword | None:
        """Where the password is kept in step with the keystore."""
        return self.password_file or self.deposit

    def make_room(self) -> None:
        """Make the service's directory where it is missing, and make sure that no keystore is there yet.

        Raises:
            SecretFileExistsError: there is one.
            SecretFileError: the directory cannot be made.
        """
        if self.keystore.exists():
            raise SecretFileExistsError(
                f"{self.keystore} exists and is not overwritten",
                "Use the wallet that is there (plumised wallet address), or move it away if it is not needed.",
            )
        if self.state_dir is None or self.state_dir.exists():
            return
        try:
            owner = pwd.getpwnam(SERVICE_USER)
            self.state_dir.mkdir(mode=STATE_MODE)
            os.chown(self.state_dir, owner.pw_uid, owner.pw_gid)
        except KeyError:
            raise SecretFileError(
                f"{self.state_dir} cannot be given to the user {SERVICE_USER}: there is none",
                f"Install plumise-node, or make {self.state_dir} for the user that runs plumised.",
            ) from None
        except OSError as error:
            raise SecretFileError(
                f"{self.state_dir} cannot be made: {error.strerror}", "Make it for the user that runs plumised."
            ) from None


def wallet_place(arguments: Namespace, host_name: str, *, root: bool) -> WalletPlace:
    """The wallet that the arguments name.

    Args:
        arguments: with `keystore`, and those of `add_config_arguments`.
        host_name: what this machine is called.
        root: whether root asks, who alone may fill the service's directories.

    Raises:
        ConfigError: the configuration is needed, and wrong.
    """
    if arguments.keystore is not None:
        named: Path = arguments.keystore
        return WalletPlace(named.absolute())
    chosen = choice(arguments)
    return _configured(chosen, chosen.load(host_name), root=root)


def _configured(chosen: ConfigChoice, settings: Settings, *, root: bool) -> WalletPlace:
    wallet, state_dir = settings.wallet, settings.node.state_dir
    password_file = StoredPassword(wallet.password_file) if wallet.password_file else None
    if not chosen.packaged:
        return WalletPlace(wallet.keystore, password_file=password_file)
    ours = root and password_file is None and wallet.password_credential == PASSWORD_CREDENTIAL
    return WalletPlace(
        wallet.keystore,
        state_dir=state_dir if root and wallet.keystore.is_relative_to(state_dir) else None,
        unit=chosen.layout.unit,
        password_file=password_file,
        deposit=StoredPassword(chosen.layout.password_file) if ours else None,
    )
