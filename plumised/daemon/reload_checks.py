"""What else can be wrong with a new configuration than its text: what a start would refuse, found without a start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from plumised.chain.keystore import read_keystore
from plumised.chain.password import read_password_credential, read_password_file
from plumised.config import ConfigProblem
from plumised.daemon.identity import PasswordSourceError
from plumised.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plumised.config import Changes, NodeSettings, Settings, WalletSettings


def problems(file: Path, new: Settings, changes: Changes, credentials: Path | None) -> tuple[ConfigProblem, ...]:
    """What is wrong around the changed keys; nothing is made or changed. Reads files.

    Args:
        file: where the settings stand.
        new: the settings.
        changes: what is new about them.
        credentials: directory of systemd credentials, or None.
    """
    found: list[ConfigProblem] = []
    changed = {*changes.live, *changes.engine, *changes.daemon}
    found += (ConfigProblem(file, None, *rest) for rest in _directories(new.node, changed))
    if changes.engine:
        found += (ConfigProblem(file, None, *rest) for rest in _engine(new))
    if any(key.startswith("wallet.") or key in {"oracle.enabled", "chain.enabled"} for key in changes.daemon):
        found += (ConfigProblem(file, None, None, *rest) for rest in _wallet(new, credentials))
    return tuple(found)


def _directories(node: NodeSettings, changed: set[str]) -> Iterator[tuple[str, str, str]]:
    for key, directory in (
        ("node.state_dir", node.state_dir),
        ("node.runtime_dir", node.runtime_dir),
        ("node.cache_dir", node.cache_dir),
    ):
        if key not in changed:
            continue
        there = next(place for place in (directory, *directory.parents) if place.exists())
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            yield (
                key,
                f"is {directory}, which cannot be written",
                "Make it a directory that the user of the service may write, or name another.",
            )


def _engine(new: Settings) -> Iterator[tuple[str, str, str]]:
    python, model = new.engine.python, new.engine.model
    if not (python.is_file() and os.access(python, os.X_OK)):
        yield (
            "engine.python",
            f"is {python}, which cannot be executed",
            "Install plumise-engine-petals, or name the interpreter of an engine environment.",
        )
    if model.startswith("/") and not Path(model).is_dir():
        yield "engine.model", f"is {model}, which is no directory", "Name the directory that holds the checkpoint."


def _wallet(new: Settings, credentials: Path | None) -> Iterator[tuple[str, str]]:
    if not (new.oracle.enabled or new.chain.enabled):
        return
    for read in (_read_keystore, _read_password):
        try:
            read(new.wallet, credentials)
        except OperatorError as error:
            yield f"{error.message} ({error.code})", error.remedy


def _read_keystore(wallet: WalletSettings, _credentials: Path | None) -> None:
    read_keystore(wallet.keystore)


def _read_password(wallet: WalletSettings, credentials: Path | None) -> None:
    if wallet.password_file is not None:
        read_password_file(wallet.password_file)
    elif wallet.password_credential is not None:
        read_password_credential(wallet.password_credential, credentials)
    else:
        raise PasswordSourceError(
            f"Nothing says where the password of the keystore {wallet.keystore} is",
            "Set wallet.password_credential or wallet.password_file.",
        )
