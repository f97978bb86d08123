"""node.toml(5), from the settings."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from plumised import __version__
from plumised.config.effects import Effect
from plumised.config.reference import Entry, entries
from plumised.config.settings import SECTIONS
from plumised.manual import roff

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTION = """\
`node.toml` configures a node of the Plumise network, see `plumised`(8). It is a file in TOML v1.0. After it the files
named *.toml in the directory `node.toml.d` beside it are read, in the order of their names. A later file wins key by
key; an array is replaced as a whole. A node that runs as `plumised@NAME.service` has NAME.toml and NAME.toml.d instead,
and where these do not say otherwise, directories named plumise-NAME.

Types are strict: a number in quotes is a mistake, and so is a key that does not exist. `plumised check-config` names
every mistake with file, line, key and remedy.

No secret belongs here: the wallet's key is in the keystore, its password in a file or credential of its own.

A changed key counts after a reload (`systemctl reload plumised`), which restarts the engine where the key says so. A
reload is refused as a whole, and changes nothing, where the files have a mistake or a changed key needs a restart of
the daemon.
"""

_EXAMPLE = """\
[engine]
model = "bigscience/bloom-560m"
blocks = "0:12"

[oracle]
url = "https://oracle.example.org"

[chain]
rpc_urls = ["https://rpc.example.org", "https://rpc2.example.org"]
"""

_EFFECTS = {
    Effect.RELOAD: "A reload is enough.",
    Effect.ENGINE: "A reload restarts the engine.",
    Effect.DAEMON: "Needs a restart of the daemon.",
}


def config_page(date: str) -> str:
    """The page in roff; `date` is shown at its foot and may be empty."""
    lines = [
        *roff.title("node.toml", 5, date=date, source=f"plumised {__version__}"),
        roff.heading("Name"),
        r"node.toml \- configuration of a node of the Plumise network",
        roff.heading("Synopsis"),
        r"/etc/plumise/node.toml",
        ".br",
        r"/etc/plumise/node.toml.d/*.toml",
        ".br",
        r"/etc/plumise/\fINAME\fP.toml",
        roff.heading("Description"),
        *roff.paragraphs(_DESCRIPTION),
        roff.heading("Keys"),
    ]
    for section, keys in groupby(entries(), key=lambda entry: entry.section):
        lines += [roff.subheading(f"[{section}]"), *roff.paragraphs(_meaning(section))]
        for entry in keys:
            lines += _key(entry)
    lines += [roff.heading("Examples"), *roff.example(_EXAMPLE.splitlines())]
    lines += [roff.heading("See also"), roff.text("`plumised`(8)")]
    return "\n".join(lines) + "\n"


def _meaning(section: str) -> str:
    return (SECTIONS[section].__doc__ or "").split("\n\n", maxsplit=1)[0]


def _key(entry: Entry) -> Iterator[str]:
    value = f" = {roff.escaped(entry.default, typed=True)}" if entry.default is not None else ""
    example = f" For example: `{entry.example}`." if entry.default is None else ""
    yield from roff.item(f"{roff.bold(entry.key)}{value}", f"{entry.description}{example} {_EFFECTS[entry.effect]}")
