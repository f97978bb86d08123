"""How deep JSON of others is nested, told before it is parsed.

Python's parser calls itself for each level. What ends that is the interpreter's recursion limit, which the Ethereum
libraries raise beyond what the stack holds, so that some ten thousand brackets would end the process.
"""

from __future__ import annotations

import re
from typing import Final

DEEPEST: Final = 64
"""Levels that anything which is said to the daemon may have; nothing that it understands has more than ten."""

_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[\[{]|[\]}]', re.DOTALL)


def nested_too_deeply(text: str, deepest: int = DEEPEST) -> bool:
    """Whether JSON opens more than `deepest` arrays and objects within one another.

    Takes any text, in time that is linear in its length. Where the text is no JSON, False promises nothing but that a
    parser which stops at the first mistake has not come deeper.
    """
    if text.count("[") + text.count("{") <= deepest:
        return False
    depth = 0
    for token in _TOKENS.finditer(text):
        match text[token.start()]:
            case "[" | "{":
                depth += 1
                if depth > deepest:
                    return True
            case "]" | "}":
                depth -= 1
    return False
