"""Whether a text was signed by a wallet, and whether its time is ours."""

from __future__ import annotations

import re

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys.constants import SECPK1_N
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from tests.devnet.oracle.refusal import invalid_signature

WINDOW_S = 60
"""How far a message's time may be from the Oracle's, in whole seconds either way."""


def check_signed(text: str, signature: str, wallet: str) -> None:
    """Raise Refused (401) unless `signature` is the wallet's personal_sign (EIP-191) of the text.

    It has to be 65 bytes in hex with 0x, with a recovery value of 27 or 28 and a low s, as wallets make it.
    """
    if re.fullmatch(r"0x[0-9a-fA-F]{130}", signature) is None:
        raise invalid_signature()
    raw = bytes.fromhex(signature[2:])
    if raw[64] not in {27, 28} or int.from_bytes(raw[32:64], "big") > SECPK1_N // 2:
        raise invalid_signature()
    try:
        signer = Account.recover_message(encode_defunct(text=text), signature=raw)
    except (BadSignature, ValidationError, ValueError) as error:
        raise invalid_signature() from error
    if signer.lower() != wallet.lower():
        raise invalid_signature()


def check_time(timestamp: int, now: float) -> None:
    """Raise Refused (401) if a Unix time is outside of the window around the Oracle's."""
    if abs(int(now) - timestamp) > WINDOW_S:
        raise invalid_signature()
