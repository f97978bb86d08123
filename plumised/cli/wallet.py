"""plumised wallet: makes the node's keystore, tells its address, changes its password, gives out its key."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.config_file import add_config_arguments
from plumised.cli.prompts import PromptError, ask, ask_twice
from plumised.cli.verb import Context, UsageError, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from plumised.chain.password import Password
    from plumised.cli.wallet_place import WalletPlace

LONGEST_KEY_FILE = 1024

_CONSENT = "yes"


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, meaning: str) -> ArgumentParser:
        return actions.add_parser(name, help=meaning, description=meaning, allow_abbrev=False)

    create = add("create", "make a new key and encrypt it into the keystore")
    importing = add("import", "encrypt an existing private key into the keystore")
    address = add("address", "print the agent's address")
    changing = add("change-password", "encrypt the keystore anew")
    storing = add("store-password", "keep the password of an existing keystore where the service has it from; for root")
    exporting = add("export", "show the private key on the terminal, or write it into a file")
    importing.add_argument(
        "--key-file", type=Path, metavar="FILE", help="file with the private key in hex; by default it is asked for"
    )
    exporting.add_argument(
        "--output", type=Path, metavar="FILE", help="make this file, with mode 0600, instead of showing the key"
    )
    for action in (create, importing):
        _add_password_file(action, "--password-file", "file with the password; by default it is asked for twice")
        action.add_argument(
            "--no-store-password",
            action="store_true",
            help="do not keep the password where the service has it from, as root otherwise does",
        )
    for action in (changing, storing, exporting):
        _add_password_file(action, "--password-file", "file with the password; by default it is asked for")
    _add_password_file(changing, "--new-password-file", "file with the new one; by default it is asked for twice")
    for action in (create, importing, address, changing, storing, exporting):
        action.add_argument(
            "--keystore",
            type=Path,
            metavar="FILE",
            help="the keystore; by default wallet.keystore of the configuration",
        )
        add_config_arguments(action)


def _add_password_file(parser: ArgumentParser, option: str, meaning: str) -> None:
    parser.add_argument(option, type=Path, metavar="FILE", help=meaning)


def _run(arguments: Namespace, context: Context) -> int:
    # The cryptography takes half a second to import, which the other verbs need not wait for.
    from plumised.chain import wallet  # noqa: PLC0415 - see above
    from plumised.chain.memory_guard import keep_memory_private  # noqa: PLC0415 - as above
    from plumised.cli.wallet_place import wallet_place  # noqa: PLC0415 - as above

    keep_memory_private()
    place = wallet_place(arguments, context.host_name, root=os.geteuid() == 0)
    match arguments.action:
        case "create" | "import":
            address = _make(place, arguments, context)
        case "change-password":
            address = _change_password(place, arguments, context)
        case "store-password":
            address = _store_password(place, arguments, context)
        case "export":
            return _export(place.keystore, arguments, context)
        case _:
            address = wallet.read_address(place.keystore)
    context.stdout.write(f"{address}\n")
    return 0


def _make(place: WalletPlace, arguments: Namespace, context: Context) -> str:
    from plumised.chain import wallet  # noqa: PLC0415 - as above

    place.make_room()
    key = _key(arguments) if arguments.action == "import" else None
    password = _new_password(arguments.password_file)
    deposit = None if arguments.no_store_password else place.deposit
    if deposit is not None:
        deposit.refuse_another(password)
    with nullcontext() if deposit is None else deposit.following(password, present=None):
        if key is None:
            address = wallet.create_keystore(place.keystore, password)
        else:
            address = wallet.import_key(place.keystore, key, password)
    if deposit is not None:
        context.stderr.write(
            f"The password is kept in {deposit.path}, from where {place.unit} has it. Keep a copy of it and of "
            f"{place.keystore} elsewhere: without both, the agent and its rewards are lost.\n"
        )
    elif place.unit is not None and place.password_file is None:
        context.stderr.write(
            f"The password is kept nowhere. {place.unit} needs it: as root run plumised wallet store-password, or give "
            "the unit an encrypted credential (encrypted-password.conf in /usr/share/doc/plumise-node/examples).\n"
        )
    return address


def _change_password(place: WalletPlace, arguments: Namespace, context: Context) -> str:
    from plumised.chain import wallet  # noqa: PLC0415 - as above
    from plumised.chain.keystore import read_keystore  # noqa: PLC0415 - as above
    from plumised.chain.lock import WalletLock  # noqa: PLC0415 - as above

    # Read first: a missing keystore is told before anything is asked for.
    read_keystore(place.keystore)
    with WalletLock(place.keystore):
        old = _password(arguments.password_file, "Password of the keystore")
        new = _new_password(arguments.new_password_file)
        stored = place.stored
        if stored is None or not stored.exists():
            address = wallet.change_password(place.keystore, old, new)
            if place.unit is not None:
                context.stderr.write(f"{place.unit} has its password from elsewhere: change it there, too.\n")
            return address
        wallet.open_wallet(place.keystore, old)
        with stored.following(new, present=old):
            return wallet.change_password(place.keystore, old, new)


def _store_password(place: WalletPlace, arguments: Namespace, context: Context) -> str:
    from plumised.chain import wallet  # noqa: PLC0415 - as above
    from plumised.chain.keystore import read_keystore  # noqa: PLC0415 - as above

    read_keystore(place.keystore)
    if place.stored is None:
        raise UsageError(
            "There is no place of the service's that this password could be stored in",
            "Run this as root, without --keystore and with the package's own configuration, or with --instance NAME.",
        )
    password = _password(arguments.password_file, "Password of the keystore")
    address = wallet.open_wallet(place.keystore, password).address
    place.stored.put(password)
    context.stderr.write(f"The password is kept in {place.stored.path}.\n")
    return address


def _export(keystore: Path, arguments: Namespace, context: Context) -> int:
    """Show the key to the person at the terminal who asked for it, or write it into a private file."""
    from plumised.chain import secret_files, wallet  # noqa: PLC0415 - as above
    from plumised.chain.keystore import read_keystore  # noqa: PLC0415 - as above

    read_keystore(keystore)
    if arguments.output is None and not context.stdout.isatty():
        raise PromptError(
            "The private key is shown on a terminal only", "Run this at a terminal, or name a file with --output."
        )
    password = _password(arguments.password_file, "Password of the keystore")
    if arguments.output is not None:
        key = wallet.export_key(keystore, password)
        secret_files.create_secret_file(arguments.output.absolute(), f"{key}\n".encode("ascii"))
        context.stdout.write(f"{arguments.output}\n")
        return 0
    if ask(f"Whoever sees the private key owns the wallet. Type {_CONSENT} to show it") != _CONSENT:
        raise PromptError("The private key is not shown", f"Type {_CONSENT} to have it shown.")
    context.stdout.write(f"{wallet.export_key(keystore, password)}\n")
    return 0


def _key(arguments: Namespace) -> str:
    from plumised.chain import secret_files  # noqa: PLC0415 - as above

    if arguments.key_file is None:
        return ask("Private key")
    return secret_files.read_secret_file(arguments.key_file, limit=LONGEST_KEY_FILE).decode("utf-8", "replace")


def _password(file: Path | None, what: str) -> Password:
    from plumised.chain import password  # noqa: PLC0415 - as above

    return password.Password(ask(what)) if file is None else password.read_password_file(file)


def _new_password(file: Path | None) -> Password:
    from plumised.chain import password  # noqa: PLC0415 - as above

    return (
        password.Password(ask_twice("Password for the keystore")) if file is None else password.read_password_file(file)
    )


VERB = Verb("wallet", "make the keystore, tell its address, change its password, export its key", _configure, _run)
