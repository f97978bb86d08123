"""The file that the service has the keystore's password from, and how it follows the keystore without a gap.

Two files cannot be replaced at once. So the next password is put beside the present one before the keystore changes,
and takes its place after that: whatever dies in between, one of the two opens the keystore.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from plumised.chain.password import SUCCESSOR, Password, read_password_file
from plumised.chain.secret_files import SecretFileExistsError, move_secret_file, put_secret_file, remove_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StoredPassword:
    """A password on disk, mode 0600.

    Args:
        path: the file. Its successor, during a change, is beside it with `.next` after its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._successor = path.with_name(path.name + SUCCESSOR)

    def exists(self) -> bool:
        """Whether there is a password, be it from a change that was cut off."""
        return self.path.exists() or self._successor.exists()

    def refuse_another(self, password: Password) -> None:
        """Make sure that no password of another wallet is overwritten.

        Raises:
            SecretFileExistsError: the file holds another password than this.
            SecretFileError: it cannot be read.
        """
        if self.path.exists() and read_password_file(self.path) != password:
            raise SecretFileExistsError(
                f"{self.path} holds another password and is not overwritten",
                f"Move it away; or, if it is meant for this wallet, use --password-file {self.path}.",
            )

    def put(self, password: Password) -> None:
        """Keep this password, which opens the keystore, and no other.

        Raises:
            SecretFileError: the directory is not writable, or the disk is full; the file is as before.
        """
        put_secret_file(self.path, _content(password))
        remove_secret_file(self._successor)

    @contextmanager
    def following(self, new: Password, *, present: Password | None) -> Iterator[None]:
        """Keep `new` once the context, in which the keystore is encrypted with it, was left without an error.

        Args:
            new: what opens the keystore afterwards.
            present: what opens it at the moment; None where there is no keystore yet.

        Raises:
            SecretFileError: the directory is not writable, or the disk is full. Before the context is entered, nothing
                has changed; after it, the successor is kept, which serves as well.
        """
        if present is not None:
            # What a change that was cut off left behind: the successor may be the one that counts, and is needed below.
            self.put(present)
        put_secret_file(self._successor, _content(new), like=self.path)
        yield
        move_secret_file(self._successor, self.path)


def _content(password: Password) -> bytes:
    return f"{password.reveal()}\n".encode()
