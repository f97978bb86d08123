"""plumised(8), from the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plumised import __version__
from plumised.cli import exits
from plumised.config.layout import PLAIN, instance
from plumised.errors import EXIT_CONFIG
from plumised.manual import roff
from plumised.manual.surface import Argument, Command, Value, surface

if TYPE_CHECKING:
    from collections.abc import Iterator

_DESCRIPTION = """\
`plumised` makes this machine a node of the Plumise network. It keeps one Petals server (the engine) running, which
serves a range of a model's blocks to a swarm of peers, counts the work that the engine really did, and has it credited:
with signed reports to the Oracle, and with registration and heartbeats on the chain.

The service is `plumised.service`, or `plumised@NAME.service` for each of several nodes on one machine. The other
commands look after the wallet and the configuration, or ask the running daemon over its control socket.
"""

_NODE = ("--socket", "--config", "--instance")
"""Options that say which node is meant."""

_WHICH_NODE = """\
Most commands are about one node: that of `plumised.service` unless one of these options says otherwise. Commands that
ask the running daemon take all of them, the others --config and --instance.
"""

_EXAMPLES = """\
# The first start, after /etc/plumise/node.toml was edited
plumised check-config
plumised wallet create
systemctl start plumised
plumised wait --for serving --timeout 900
plumised status

# A second node on the same machine
editor /etc/plumise/gpu1.toml    # swarm.listen and metrics.listen of its own
plumised wallet create --instance gpu1
systemctl enable --now plumised@gpu1

# After a change of the configuration
systemctl reload plumised
"""

_STATUSES = {
    0: "Done. The daemon ends with it when it was told to stop.",
    exits.EXIT_NOT_DONE: "Understood, but not done; a line on standard error tells why. The daemon ends with it when "
    "its ledger was damaged; the next start mends that.",
    exits.EXIT_USAGE: "The command line makes no sense.",
    exits.EXIT_INPUT: "What was typed at a prompt is of no use, or nothing could be asked for.",
    exits.EXIT_UNAVAILABLE: "No daemon answers.",
    exits.EXIT_SOFTWARE: "A defect, or a failure that another try may overcome.",
    exits.EXIT_TEMPORARY: "What was waited for did not come in time.",
    EXIT_CONFIG: "The operator must change something: the configuration, the wallet, a file. systemd does not start "
    "the daemon again.",
    exits.EXIT_INTERRUPTED: "Interrupted at the terminal.",
}

_SIGNALS = {
    "SIGTERM, SIGINT": "The daemon stops in order: the engine ends its sessions, the last report is sent.",
    "SIGHUP": "The daemon reads its configuration again, as with `plumised reload`; the log says what came of it.",
}

_ENVIRONMENT = {
    "NOTIFY_SOCKET, WATCHDOG_USEC": "By these systemd has the daemon tell its state and give signs of life.",
    "CREDENTIALS_DIRECTORY": "Where systemd puts the wallet's password.",
    "JOURNAL_STREAM": "By this the daemon finds out that its log goes to the journal.",
}


def commands_page(date: str) -> str:
    """The page in roff; `date` is shown at its foot and may be empty."""
    lines = [
        *roff.title("plumised", 8, date=date, source=f"plumised {__version__}"),
        roff.heading("Name"),
        r"plumised \- keep this machine a node of the Plumise network",
        roff.heading("Synopsis"),
        *_synopses(surface()),
        roff.heading("Description"),
        *roff.paragraphs(_DESCRIPTION),
        roff.heading("Commands"),
    ]
    for command in _leaves(surface()):
        lines += [roff.subheading(command.name), *roff.paragraphs(_sentence(command.summary))]
        for argument in _own(command):
            lines += roff.item(_tag(argument), _sentence(argument.help))
    lines += [roff.heading("Which node"), *roff.paragraphs(_WHICH_NODE)]
    for argument in sorted(_shared(surface()), key=lambda shared: _NODE.index(shared.flags[-1])):
        lines += roff.item(_tag(argument), _sentence(argument.help))
    lines += [roff.heading("Files"), *_files()]
    lines += [roff.heading("Exit status")]
    for status, meaning in sorted(_STATUSES.items()):
        lines += roff.item(roff.bold(str(status)), meaning)
    for title, table in (("Signals", _SIGNALS), ("Environment", _ENVIRONMENT)):
        lines += [roff.heading(title)]
        for term, meaning in table.items():
            lines += roff.item(roff.bold(term), meaning)
    lines += [roff.heading("Examples"), *roff.example(_EXAMPLES.splitlines())]
    lines += [roff.heading("See also"), roff.text("`node.toml`(5), `systemctl`(1), `journalctl`(1), `systemd.exec`(5)")]
    lines += roff.paragraphs("/usr/share/doc/plumise-node has the operator's pages, all reason codes among them.")
    return "\n".join(lines) + "\n"


def _leaves(command: Command) -> Iterator[Command]:
    for each in command.all():
        if not each.below:
            yield each


def _own(command: Command) -> list[Argument]:
    return [argument for argument in command.arguments if not _is_shared(argument)]


def _shared(root: Command) -> set[Argument]:
    return {argument for command in root.all() for argument in command.arguments if _is_shared(argument)}


def _is_shared(argument: Argument) -> bool:
    return bool(argument.flags) and argument.flags[-1] in _NODE


def _synopses(root: Command) -> Iterator[str]:
    for command in _leaves(root):
        arguments = [_synopsis(argument) for argument in _own(command)]
        if len(arguments) < len(command.arguments):
            arguments.append(rf"[{roff.italic('node')}]")
        if command is not root.below[0]:
            yield ".br"
        yield " ".join([roff.bold(command.name), *arguments])


def _synopsis(argument: Argument) -> str:
    shown = _tag(argument).replace(" ", r"\ ")
    return shown if argument.required else f"[{shown}]"


def _tag(argument: Argument) -> str:
    parts = [roff.bold(argument.flags[-1])] if argument.flags else []
    if argument.value is Value.CHOICE:
        parts.append("|".join(map(roff.bold, argument.choices)))
    elif argument.value is not Value.NOTHING:
        parts.append(roff.italic(argument.metavar))
    return " ".join(parts)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _files() -> Iterator[str]:
    named = instance("NAME")
    for first, second, meaning in (
        (PLAIN.config_file, named.config_file, "The configuration; see `node.toml`(5)."),
        (
            PLAIN.password_file,
            named.password_file,
            "The wallet's password, as `plumised wallet create` keeps it; for root only.",
        ),
        (PLAIN.state_dir, named.state_dir, "The wallet, the ledger and the identity in the swarm. Back it up."),
        (PLAIN.cache_dir, named.cache_dir, "Model files, which can be fetched again."),
        (PLAIN.runtime_dir, named.runtime_dir, "The control socket and the engine's scratch files."),
    ):
        shown = str(second).replace("NAME", "\0")
        other = r"\fINAME\fP".join(roff.escaped(part, typed=True) for part in shown.split("\0"))
        yield from roff.item(f"{roff.escaped(str(first), typed=True)}, {other}", meaning)
