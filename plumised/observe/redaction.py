"""Keeps secrets out of what is written: by their form, and by their value once it is known."""

from __future__ import annotations

import re

REDACTED = "[redacted]"
SHORTEST_VALUE = 4
"""Values shorter than this are not looked for: they would be found in everything."""

_KEY_WORD = r"(?:priv(?:ate)?[\s_-]*key|secret(?:[\s_-]*key)?|signing[\s_-]*key|key|seed|mnemonic|password|passphrase)"
_PATTERNS = (
    # 32 bytes in hex after a word that names a secret.
    re.compile(rf"(?i)({_KEY_WORD}[\"']?[^0-9a-zA-Z]{{1,6}}(?:(?:is|was|of)\s+)?)(?:0x)?[0-9a-f]{{64}}\b"),
    # What a v3 keystore encrypts.
    re.compile(r"(?i)(\\?[\"']ciphertext\\?[\"']\s*:\s*\\?[\"'])(?:0x)?[0-9a-f]+"),
    # An assignment to a password.
    re.compile(r"(?i)((?:password|passphrase|passwd)\\?[\"']?\s*[=:]\s*)(?:\\?\"[^\"]*\"|'[^']*'|[^\s,;}]+)"),
    # Credentials in a URL.
    re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@"),
)
_BEFORE_HOST = 3


class Redactor:
    """Replaces secrets in text. May be used from any thread."""

    def __init__(self) -> None:
        self._values: frozenset[str] = frozenset()
        self._known: re.Pattern[str] | None = None

    def register(self, *values: str) -> None:
        """Have these values replaced wherever they stand, whatever the case of their letters.

        A value in hex is found with and without its 0x. Values shorter than `SHORTEST_VALUE` are not looked for.
        """
        bare = {value.removeprefix("0x") for value in values}
        self._values |= {value for value in bare if len(value) >= SHORTEST_VALUE}
        if self._values:
            longest_first = sorted(self._values, key=len, reverse=True)
            self._known = re.compile("(?i)(?:0x)?(?:" + "|".join(map(re.escape, longest_first)) + ")")

    def redact(self, text: str) -> str:
        """The text without the secrets in it."""
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        for pattern in _PATTERNS[:_BEFORE_HOST]:
            text = pattern.sub(rf"\g<1>{REDACTED}", text)
        return _PATTERNS[_BEFORE_HOST].sub(rf"\g<1>{REDACTED}@", text)
