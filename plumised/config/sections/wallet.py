"""`[wallet]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from plumised.config import values
from plumised.config.sections.section import AbsolutePath, Section

PASSWORD_CREDENTIAL: Final = "wallet-password"  # noqa: S105 - its name
"""As the units in `systemd/` call it."""


class WalletSettings(Section, frozen=True):
    """The wallet. Its password is never written into this file."""

    exclusive = (("password_file", "password_credential"),)

    keystore: AbsolutePath = Field(
        Path("/var/lib/plumise/wallet/keystore.json"),
        description="Encrypted keystore, made by `plumised wallet create`. By default wallet/keystore.json in "
        "state_dir.",
    )
    password_file: AbsolutePath | None = Field(
        None,
        description="File that holds the keystore's password, readable by its owner only. Excludes "
        "password_credential.",
        examples=["/etc/plumise/wallet.password"],
    )
    password_credential: Annotated[str, AfterValidator(values.credential)] = Field(
        PASSWORD_CREDENTIAL,
        description="Name of the systemd credential (LoadCredential=) that holds the keystore's password. Excludes "
        "password_file, and counts for nothing where that is set.",
    )
