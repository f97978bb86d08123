"""plumised wallet: makes the node's keystore and tells its address."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from plumised.cli.prompts import ask, ask_twice
from plumised.cli.verb import DEFAULT_CONFIG, Context, Verb
from plumised.config import load

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from plumised.chain.password import Password

LONGEST_KEY_FILE = 1024


def _configure(parser: ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a new key and encrypt it into the keystore", allow_abbrev=False)
    importing = actions.add_parser(
        "import", help="encrypt an existing private key into the keystore", allow_abbrev=False
    )
    address = actions.add_parser("address", help="print the agent's address", allow_abbrev=False)
    importing.add_argument(
        "--key-file", type=Path, metavar="FILE", help="file with the private key in hex; by default it is asked for"
    )
    for action in (create, importing):
        action.add_argument(
            "--password-file",
            type=Path,
            metavar="FILE",
            help="file with the password; by default it is asked for twice",
        )
    for action in (create, importing, address):
        action.add_argument(
            "--keystore",
            type=Path,
            metavar="FILE",
            help="the keystore; by default wallet.keystore of the configuration",
        )
        action.add_argument(
            "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"default: {DEFAULT_CONFIG}"
        )


def _run(arguments: Namespace, context: Context) -> int:
    # The cryptography takes half a second to import, which the other verbs need not wait for.
    from plumised.chain import secret_files, wallet  # noqa: PLC0415 - see above

    keystore = _keystore(arguments, context)
    match arguments.action:
        case "create":
            address = wallet.create_keystore(keystore, _password(arguments))
        case "import":
            if arguments.key_file is None:
                key = ask("Private key")
            else:
                content = secret_files.read_secret_file(arguments.key_file, limit=LONGEST_KEY_FILE)
                key = content.decode("utf-8", "replace")
            address = wallet.import_key(keystore, key, _password(arguments))
        case _:
            address = wallet.read_address(keystore)
    context.stdout.write(f"{address}\n")
    return 0


def _keystore(arguments: Namespace, context: Context) -> Path:
    if arguments.keystore is not None:
        named: Path = arguments.keystore
        return named.absolute()
    return load(arguments.config, host_name=context.host_name).wallet.keystore


def _password(arguments: Namespace) -> Password:
    from plumised.chain import password  # noqa: PLC0415 - as above

    if arguments.password_file is not None:
        return password.read_password_file(arguments.password_file)
    return password.Password(ask_twice("Password for the keystore"))


VERB = Verb("wallet", "make the keystore, tell its address", _configure, _run)
