"""plumised wallet: makes the node's keystore, tells its address, changes its password, gives out its key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.config_file import add_config_arguments, choice
from plumised.cli.prompts import PromptError, ask, ask_twice
from plumised.cli.verb import Context, Verb

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from plumised.chain.password import Password

LONGEST_KEY_FILE = 1024

_CONSENT = "yes"


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a new key and encrypt it into the keystore", allow_abbrev=False)
    importing = actions.add_parser(
        "import", help="encrypt an existing private key into the keystore", allow_abbrev=False
    )
    address = actions.add_parser("address", help="print the agent's address", allow_abbrev=False)
    changing = actions.add_parser("change-password", help="encrypt the keystore anew", allow_abbrev=False)
    exporting = actions.add_parser(
        "export", help="show the private key on the terminal, or write it into a file", allow_abbrev=False
    )
    importing.add_argument(
        "--key-file", type=Path, metavar="FILE", help="file with the private key in hex; by default it is asked for"
    )
    exporting.add_argument(
        "--output", type=Path, metavar="FILE", help="make this file, with mode 0600, instead of showing the key"
    )
    for action in (create, importing):
        _add_password_file(action, "--password-file", "file with the password; by default it is asked for twice")
    for action in (changing, exporting):
        _add_password_file(action, "--password-file", "file with the password; by default it is asked for")
    _add_password_file(changing, "--new-password-file", "file with the new one; by default it is asked for twice")
    for action in (create, importing, address, changing, exporting):
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

    keep_memory_private()
    keystore = _keystore(arguments, context)
    match arguments.action:
        case "create":
            address = wallet.create_keystore(keystore, _new_password(arguments.password_file))
        case "import":
            address = wallet.import_key(keystore, _key(arguments), _new_password(arguments.password_file))
        case "change-password":
            address = _change_password(keystore, arguments)
        case "export":
            return _export(keystore, arguments, context)
        case _:
            address = wallet.read_address(keystore)
    context.stdout.write(f"{address}\n")
    return 0


def _change_password(keystore: Path, arguments: Namespace) -> str:
    from plumised.chain import wallet  # noqa: PLC0415 - as above
    from plumised.chain.keystore import read_keystore  # noqa: PLC0415 - as above
    from plumised.chain.lock import WalletLock  # noqa: PLC0415 - as above

    # Read first: a missing keystore is told before anything is asked for.
    read_keystore(keystore)
    with WalletLock(keystore):
        old = _password(arguments.password_file, "Password of the keystore")
        return wallet.change_password(keystore, old, _new_password(arguments.new_password_file))


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


def _keystore(arguments: Namespace, context: Context) -> Path:
    if arguments.keystore is not None:
        named: Path = arguments.keystore
        return named.absolute()
    return choice(arguments).load(context.host_name).wallet.keystore


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
