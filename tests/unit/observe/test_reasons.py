from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import plumised
from plumised.errors import PlumisedError
from plumised.observe.checks import CHECKS
from plumised.oracle.planning import HoldReason

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/reasons.md"
CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def documented() -> dict[str, tuple[str, str]]:
    """Each code of the page with its meaning and remedy."""
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == len({code for code, _, _ in rows}), "a code stands there twice"
    return {code: (meaning, remedy) for code, meaning, remedy in rows}


def codes_of_errors() -> dict[str, str]:
    """The codes of all error classes of the daemon, with the class that has each."""
    for module in pkgutil.walk_packages(plumised.__path__, "plumised."):
        # The engine's side needs the engine's libraries and has no such classes; programs run when imported.
        if not module.name.startswith("plumised.petals") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {kind.code: f"{kind.__module__}.{kind.__qualname__}" for kind in below(PlumisedError)}


def below(kind: type[PlumisedError]) -> Iterator[type[PlumisedError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from below(subclass)


def codes_in_text() -> dict[str, str]:
    """The codes that stand beside their message in the source, with the file that has each.

    A code is a string of lower-case words joined by hyphens with a sentence after it in a call or beside it
    in a tuple.
    """
    found: dict[str, str] = {}
    for file in sorted((ROOT / "plumised").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            values = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
            pairs = list(pairwise(values))
            if isinstance(node, ast.Tuple):
                pairs += [(second, first) for first, second in pairs]
            for first, second in pairs:
                code = literal(first)
                if CODE.fullmatch(code) and "-" in code and " " in literal(second):
                    found[code] = str(file.relative_to(ROOT))
    return found


def literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) for part in node.values)
    return ""


VERBS = {"check-config", "restart-engine", "change-password", "store-password"}
OF_ONE_WORD = {"memory": "plumised/engine/causes.py"}


def codes() -> dict[str, str]:
    checks = {check.name: "plumised/observe/checks.py" for check in CHECKS}
    holds = {reason.value: "plumised/oracle/planning.py" for reason in HoldReason}
    every = codes_in_text() | codes_of_errors() | checks | holds | OF_ONE_WORD
    return {code: place for code, place in every.items() if code not in VERBS}


def test_every_code_is_documented() -> None:
    missing = {code: place for code, place in codes().items() if code not in documented()}

    assert not missing, "docs/reasons.md lacks " + ", ".join(f"{code} ({place})" for code, place in missing.items())


def test_every_documented_code_exists() -> None:
    gone = sorted(documented().keys() - codes().keys())

    assert not gone, f"docs/reasons.md has codes that nothing uses: {', '.join(gone)}"


def test_every_code_is_written_in_one_form() -> None:
    assert all(CODE.fullmatch(code) for code in codes())


def test_every_code_has_a_meaning_and_a_remedy() -> None:
    assert all(meaning.endswith(".") and remedy.endswith(".") for meaning, remedy in documented().values())
