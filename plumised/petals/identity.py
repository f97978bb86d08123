"""Makes the node's identity in the swarm: the key pair behind its peer id, in the file that p2pd reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_KEY_BITS: Final = 2048
_EXPONENT: Final = 65537
"""As hivemind makes them (`P2P.generate_identity`)."""

_HEAD: Final = b"\x08\x00\x12"
"""Of libp2p's `PrivateKey` in protobuf: field 1, the type, is 0 for RSA; field 2 is the key, its length first
(https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md#keys)."""


def make_identity(file: str) -> None:
    """Make the file, readable by its owner only, unless it is there. Whole or not at all.

    The engine does so before the sandbox closes, which never lets it write where the file lies.

    Raises:
        OSError: it cannot be made.
        ImportError: this is not the engine's environment.
    """
    path = Path(file)
    if path.exists() or path.is_symlink():
        return
    key = _private_key()
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with os.fdopen(descriptor, "wb") as output:
        output.write(key)
        output.flush()
        os.fsync(output.fileno())
    draft.rename(path)


def _private_key() -> bytes:
    # Imported here because a file that exists is the rule.
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 -- see above
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 -- see above
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = rsa.generate_private_key(_EXPONENT, _KEY_BITS).private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    return _HEAD + _varint(len(key)) + key


def _varint(number: int) -> bytes:
    rest, low = number >> 7, number & 0x7F
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
