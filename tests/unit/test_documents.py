"""The pages say what the source has: patches, packages, make targets, and files that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
DEVELOPMENT = (ROOT / "docs/development.md").read_text(encoding="utf-8")


def patches() -> list[str]:
    """The table's rows for PATCHES; read as text, since its module needs the engine's libraries."""
    tree = ast.parse((ROOT / "plumised/petals/patches.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Patch"]
    rows = []
    for call in calls:
        target, reason = (ast.literal_eval(argument) for argument in call.args[:2])
        rows.append(f"| `{target}` | {reason} |")
    return rows


def test_the_architecture_lists_every_patch_with_its_reason() -> None:
    section = ARCHITECTURE.partition("| replaced | because |\n| --- | --- |\n")[2].partition("\n\n")[0]
    table = section.splitlines()

    assert table == patches(), "docs/architecture.md should have:\n" + "\n".join(patches())


def test_the_architecture_lists_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "plumised").glob("*/__init__.py")}
    modules = {path.stem for path in (ROOT / "plumised").glob("*.py")} - {"__init__", "__main__"}
    rows = set(re.findall(r"^\| `(\w+)` \| .+\|$", ARCHITECTURE.partition("## Packages")[2], re.MULTILINE))

    assert packages <= rows
    assert all(f"`{module}`" in ARCHITECTURE for module in modules)


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"\bmake ([a-z0-9]+(?:-[a-z0-9]+)*)", page.read_text("utf-8"))
    }

    assert {name for name in targets - {"help"} if f"`make {name}`" not in DEVELOPMENT} == set()
    assert named - targets <= {"room"}, "a page names a target that the Makefile does not have"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []
