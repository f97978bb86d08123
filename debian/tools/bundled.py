# ruff: noqa: INP001 -- a program, of no package
"""What a package bundles, as stanzas of a copyright file (DEP-5): debian/tools/bundled.py PACKAGES LOCK PREFIX.

PACKAGES is the environment that requirements/make-env installed from LOCK, PREFIX where the package installs it. Prints
a stanza for each distribution, from its metadata and the licence files that its wheel carries; fails where the
environment is not what the lock says.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SITE: Final = "lib/python3.11/site-packages"
_VENV: Final = frozenset({"pip", "setuptools"})
"""What venv installs by itself, and the package leaves out unless the lock has it."""

_NAMESPACES: Final = frozenset({"google"})
"""Directories that several distributions share."""

_LICENCE_FILE: Final = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE)
_HOLDER: Final = re.compile(r"^\W*(?:Copyright\b|©)[\s:]*(?:\(c\)|©)?[\s:]*(.*\w.*)$", re.IGNORECASE | re.MULTILINE)
_A_YEAR: Final = re.compile(r"\b(19|20)\d\d\b")
_LONGEST_NAME: Final = 60

_COMMON: Final = (
    (
        re.compile(
            r"[ \t]*Apache License\s+Version 2\.0, January 2004.*?or additional\s+liability\."
            r"(\s+END OF TERMS AND CONDITIONS)?",
            re.DOTALL,
        ),
        "Apache-2.0",
    ),
    (re.compile(r"[ \t]*GNU GENERAL PUBLIC LICENSE\s+Version 3.*?END OF TERMS AND CONDITIONS", re.DOTALL), "GPL-3"),
    (re.compile(r"[ \t]*GNU GENERAL PUBLIC LICENSE\s+Version 2.*?END OF TERMS AND CONDITIONS", re.DOTALL), "GPL-2"),
    (
        re.compile(r"[ \t]*GNU LESSER GENERAL PUBLIC LICENSE\s+Version 2\.1.*?END OF TERMS AND CONDITIONS", re.DOTALL),
        "LGPL-2.1",
    ),
    (re.compile(r"[ \t]*Mozilla Public License,? [Vv]ersion 2\.0\s+=*\s+1\. Definitions.*\Z", re.DOTALL), "MPL-2.0"),
)
"""Texts that every Debian system has in /usr/share/common-licenses."""


@dataclass(frozen=True)
class Bundled:
    """One distribution of the environment.

    Attributes:
        places: files and directories that are its own, below site-packages.
        licence: its short name.
        texts: the licence files that it carries.
        author: as its metadata has it; empty where it has none.
    """

    name: str
    version: str
    places: tuple[str, ...]
    licence: str
    texts: tuple[str, ...]
    author: str


def canonical(name: str) -> str:
    """The name by which PEP 503 compares distributions."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> dict[str, str]:
    """Versions by canonical name, of a lock in the format of pip's requirements."""
    return {
        canonical(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, flags=re.MULTILINE)
    }


def found(site: Path) -> Iterator[Distribution]:
    """The distributions of an environment, by name."""
    yield from sorted(distributions(path=[str(site)]), key=lambda found: canonical(found.name))


def differences(site: Path, wanted: dict[str, str]) -> list[str]:
    """What is wrong with the environment, a line for each distribution."""
    there = {canonical(dist.name): dist.version.partition("+")[0] for dist in found(site)}
    for name in _VENV - wanted.keys():
        there.pop(name, None)
    return [
        f"{name}: locked {wanted.get(name, 'not')}, installed {there.get(name, 'not')}"
        for name in sorted(wanted.keys() | there.keys())
        if wanted.get(name) != there.get(name)
    ]


def bundled(dist: Distribution) -> Bundled:
    """What the metadata and the files of a distribution say about it."""
    metadata = dist.metadata
    author = next((str(metadata[key]) for key in ("Author", "Author-email", "Maintainer") if key in metadata), "")
    return Bundled(
        dist.name, dist.version, _places(dist), _licence(dist), tuple(_texts(dist)), " ".join(author.split())
    )


def _places(dist: Distribution) -> tuple[str, ...]:
    places = set()
    for file in dist.files or ():
        parts = PurePosixPath(file).parts
        if parts[0] in {"..", "__pycache__"} or parts[0].endswith((".dist-info", ".egg-info")):
            continue
        depth = 2 if parts[0] in _NAMESPACES and len(parts) > 1 else 1
        places.add("/".join(parts[:depth]) + ("/*" if len(parts) > depth else ""))
    return tuple(sorted(places))


def _licence(dist: Distribution) -> str:
    metadata = dist.metadata
    stated = str(metadata["License-Expression"] or metadata["License"] or "").strip()
    if stated and stated != "UNKNOWN" and "\n" not in stated and len(stated) <= _LONGEST_NAME:
        return stated
    classifiers = [str(line) for line in metadata.get_all("Classifier") or ()]
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    return " and ".join(names) or "other"


def _texts(dist: Distribution) -> Iterator[str]:
    for file in sorted(dist.files or (), key=str):
        if ".dist-info" in str(file) and _LICENCE_FILE.match(file.name):
            yield Path(str(dist.locate_file(file))).read_text(encoding="utf-8", errors="replace")


def holders(texts: Sequence[str]) -> list[str]:
    """The copyright statements of licence texts, each once and in their order."""
    statements = [" ".join(match.split()) for text in texts for match in _HOLDER.findall(text)]
    return list(dict.fromkeys(line for line in statements if _A_YEAR.search(line)))


def stanza(part: Bundled, prefix: str) -> str:
    """A Files stanza of DEP-5 with the whole licence in it."""
    site = f"{prefix.lstrip('/')}/{_SITE}"
    files = part.places or (f"{canonical(part.name)}*",)
    said = holders(part.texts) or [f"{part.author or f'the authors of {part.name}'} (as its metadata says)"]
    text = "\n\n".join(_shortened(text).strip("\n") for text in part.texts)
    text = text or f"The wheel of {part.name} carries no licence text; its metadata says: {part.licence}"
    lines = [
        f"Files: {f'{chr(10)} '.join(f'{site}/{place}' for place in files)}",
        f"Copyright: {f'{chr(10)} '.join(said)}",
        f"License: {re.sub(r'[^A-Za-z0-9.+-]+', '-', part.licence).strip('-')}~{canonical(part.name)}",
        *(f" {line.rstrip()}" if line.strip() else " ." for line in _printable(text).splitlines()),
        f"Comment: {part.name} {part.version}",
    ]
    return "\n".join(lines) + "\n"


def _shortened(text: str) -> str:
    for pattern, name in _COMMON:
        text = pattern.sub(f"On Debian systems this licence is in /usr/share/common-licenses/{name}.", text)
    return text


def _printable(text: str) -> str:
    return "\n".join(textwrap.dedent(line).replace("\t", "    ") for line in re.split(r"\r\n|[\r\n\f]", text))


def main(arguments: Sequence[str]) -> int:
    """Print the stanzas and return the exit status."""
    packages, lock, prefix = arguments
    site = Path(packages) / _SITE
    wanted = locked(Path(lock).read_text(encoding="utf-8"))
    wrong = differences(site, wanted)
    if wrong:
        sys.stderr.write(f"{packages} is not what {lock} says; remove it:\n" + "".join(f"  {line}\n" for line in wrong))
        return 1
    for dist in found(site):
        if canonical(dist.name) in wanted:
            sys.stdout.write(f"\n{stanza(bundled(dist), prefix)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
