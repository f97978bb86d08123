"""What the Oracle's side needs of a wallet."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """Signs texts for one address. The key stays where it is."""

    @property
    def address(self) -> str:
        """The checksummed address that the signatures recover to."""

    def sign_text(self, text: str) -> str:
        """Sign as `personal_sign` (EIP-191) does: 65 bytes over the UTF-8 text, hexadecimal with 0x."""
